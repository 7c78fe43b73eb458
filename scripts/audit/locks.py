"""The locks of requirements/, read for the audits."""

import re
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"


def canonical(name: str) -> str:
    """A package's name as the locks write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, list[tuple[str, str]]]:
    """File name -> (package, version) of each of its pins; a version without what torch's CPU builds add to theirs."""
    pin = re.compile(r"^([A-Za-z0-9._-]+)==([^\s+\\]+)(?=.*\\$)", flags=re.M)  # a line with hashes after it
    files = {path.name: pin.findall(path.read_text()) for path in sorted(REQUIREMENTS.glob("*.txt"))}
    return {name: [(canonical(package), version) for package, version in pins] for name, pins in files.items() if pins}
