"""Read the locks of requirements/ for the audits."""

import re
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"


def canonical_name(name: str) -> str:
    """A package's name in the form of the locks."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_locks() -> dict[str, list[tuple[str, str]]]:
    """File name -> (package, version) of each pin, without the local version of torch's CPU builds."""
    pin = re.compile(r"^([A-Za-z0-9._-]+)==([^\s+\\]+)(?=.*\\$)", flags=re.M)  # A line that hashes follow.
    files = {path.name: pin.findall(path.read_text()) for path in sorted(REQUIREMENTS.glob("*.txt"))}
    return {
        name: [(canonical_name(package), version) for package, version in pins] for name, pins in files.items() if pins
    }
