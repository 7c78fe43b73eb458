"""requirements/licences.md: the licence of each locked package, and what follows from it.

    python scripts/audit/licences.py             the file must have every locked package, with a licence known here
    python scripts/audit/licences.py REPORT...   writes the file first, from pip's installation reports

A licence that is not in VERDICTS (GPL, AGPL, non-commercial, none given) is not taken: status 1.
"""

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from locks import REQUIREMENTS, canonical, locked

FILE = REQUIREMENTS / "licences.md"
INTRODUCTION = (
    "Made by `bash scripts/audit.sh --licences`. What a package's files bundle of others (gfortran's runtime in scipy,",
    "FFmpeg in opencv-python-headless) is told by the licence files beside them.",
)
VERDICTS = {
    "Permissive: may be used, changed and passed on with their notices": """
        0BSD Apache-2.0 BSD BSD-2-Clause BSD-3-Clause BSL-1.0 CC0-1.0 CNRI-Python ISC LLVM-exception MIT MIT-0 MIT-CMU
        PSF-2.0 Public-Domain Unlicense""",
    "Copyleft of their own files or library: used unchanged, so nothing follows for LongRL": "LGPL-2.1-only MPL-2.0",
    "Proprietary, free of charge: everybody gets them from PyPI under their makers' terms, which bind who passes on an "
    "environment or an image with them": "Intel-Developer-Tools-EULA NVIDIA-Proprietary",
}
IN_OTHER_WORDS = {
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd license": "BSD",
    "isc license": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
    "public domain": "Public-Domain",
    "intel end user license agreement for developer tools": "Intel-Developer-Tools-EULA",
    "licenseref-nvidia-proprietary": "NVIDIA-Proprietary",
    "nvidia proprietary software": "NVIDIA-Proprietary",
}
"""What packages write instead of an SPDX name."""
READ = {
    "antlr4-python3-runtime": "BSD-3-Clause",
    "cuda-toolkit": "NVIDIA-Proprietary",
    "flash-attn": "BSD-3-Clause",
    "humming-kernels": "Apache-2.0",
    "jieba": "MIT",
    "liger-kernel": "BSD-2-Clause",
    "nvidia-cutlass-dsl": "NVIDIA-Proprietary",
    "nvidia-cutlass-dsl-libs-base": "NVIDIA-Proprietary",
    "nvidia-cutlass-dsl-libs-cu13": "NVIDIA-Proprietary",
    "nvidia-nvtx": "NVIDIA-Proprietary",
    "openai-harmony": "Apache-2.0",
    "prometheus-fastapi-instrumentator": "ISC",
    "quack-kernels": "Apache-2.0",
    "rouge-score": "Apache-2.0",
    "supervisor": "BSD",
    "tiktoken": "MIT",
    "tokenspeed-mla": "MIT",
    "wordllama": "MIT",
}
"""Of packages whose metadata does not say it: read in their files."""


def licence(metadata: dict[str, Any]) -> str:
    """A package's licence by its metadata: an SPDX expression as far as it can be told."""
    name = canonical(metadata["name"])
    words = metadata.get("license") or ""
    groups = [each.split(" :: ")[-1] for each in metadata.get("classifier", []) if each.startswith("License :: ")]
    said = metadata.get("license_expression") or (words if len(words) < 70 else "") or " AND ".join(groups)
    for other, spdx in sorted(IN_OTHER_WORDS.items(), key=lambda item: -len(item[0])):
        said = re.sub(rf"(?i)(?<![\w-]){re.escape(other)}(?![\w.-])", spdx, said)
    return READ.get(name) or said or "not said"


def verdict(expression: str) -> str | None:
    """The heading that a licence belongs under: the last one of its parts' headings; None if a part is unknown."""
    parts = re.split(r" AND | OR | WITH ", re.sub("[()]", "", expression))
    found = [[part in names.split() for names in VERDICTS.values()] for part in parts]
    if not all(any(each) for each in found):
        return None
    return list(VERDICTS)[max(each.index(True) for each in found)]


def written(reports: list[str]) -> str:
    """The file's text."""
    packages: dict[str, dict[str, set[str]]] = {heading: defaultdict(set) for heading in VERDICTS}
    unknown: dict[str, set[str]] = defaultdict(set)
    for path in reports:
        for each in json.loads(Path(path).read_text())["install"]:
            of = licence(each["metadata"])
            under = verdict(of)
            group = unknown if under is None else packages[under]
            group[of].add(f"{canonical(each['metadata']['name'])} {each['metadata']['version'].split('+')[0]}")
    for name, version in {pin for pins in locked().values() for pin in pins if pin[0] in READ}:
        packages[str(verdict(READ[name]))][READ[name]].add(f"{name} {version}")
    lines = ["# Licences of the locked packages", "", *INTRODUCTION]
    for heading, licences in {**packages, "Not accepted": unknown}.items():
        if licences:
            lines += ["", f"## {heading}", ""]
            lines += [f"- {name}: {', '.join(sorted(of))}" for name, of in sorted(licences.items())]
    return "\n".join(lines) + "\n"


def problems(text: str) -> list[str]:
    """What is wrong with the file."""
    rows = re.findall(r"^- (.+?): (.+)$", text, flags=re.M)
    known = {package for name, packages in rows if verdict(name) for package in packages.split(", ")}
    there = {f"{name} {version}" for pins in locked().values() for name, version in pins}
    fix = "read it and decide (READ, VERDICTS in scripts/audit/licences.py), then bash scripts/audit.sh --licences"
    return [f"{package}: no accepted licence; {fix}" for package in sorted(there - known)] + [
        f"{package}: not locked; bash scripts/audit.sh --licences" for package in sorted(known - there)
    ]


def main(reports: list[str]) -> int:
    """Write the file if there are reports; print what is wrong with it; the exit status."""
    if reports:
        FILE.write_text(written(reports))
    found = problems(FILE.read_text())
    print("\n".join(found or ["every locked package has an accepted licence"]))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
