"""Temporarily replace an attribute of a module: verl looks many names up when it calls them."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def patched_attribute(module: ModuleType, name: str, value: Any) -> Iterator[None]:
    """Set `module.name` to `value` during the block, as `unittest.mock.patch.object` does in tests."""
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)
