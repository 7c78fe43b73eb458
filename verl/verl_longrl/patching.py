"""Another value for a name of verl's, while a call of verl's runs that looks it up."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def patched_attribute(module: ModuleType, name: str, value: Any) -> Iterator[Any]:
    """Gives what was there, and puts it back."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield before
    finally:
        setattr(module, name, before)
