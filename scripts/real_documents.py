"""Run the first data stages on real documents: manuals and books from Debian packages.

    python scripts/real_documents.py FOLDER [--clusters 20]

Downloads documentation packages (apt-get download, without root), runs their text and HTML through ingest, dedup,
chunk, embed and cluster with the built-in tokenizer and static vectors, and writes docs/results/real_documents.md:
counts, times, and 20 clusters to judge by eye. Needs a Debian machine with its package mirror.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from data_gen import report
from data_gen.grounding import show
from data_gen.grounding.pipeline import GROUNDING
from data_gen.store import Store

PACKAGES = (
    "debian-handbook",
    "debian-reference-en",
    "debian-policy",
    "developers-reference",
    "git-doc",
    "postgresql-doc-*",
    "python3.*-doc",
    "sqlite3-doc",
)
"""For names with a *, the newest package of this Debian."""
SETTINGS = ("tokenizer=builtin", "embed.backend=static", "chunk.max_tokens=128", "cluster.center=true")
RESULT = Path("docs/results/real_documents.md")


def list_packages() -> list[str]:
    """The names of PACKAGES in this Debian."""
    available = subprocess.run(["apt-cache", "pkgnames"], capture_output=True, text=True, check=True).stdout.split()
    names = []
    for pattern in PACKAGES:
        matching = [name for name in available if re.fullmatch(pattern.replace("*", "[0-9]+"), name)]
        names += sorted(matching, key=lambda name: [int(n) for n in re.findall(r"[0-9]+", name)])[-1:]
        if not matching:
            print(f"{pattern}: this Debian has no such package", file=sys.stderr)
    return names


def fetch_documents(folder: Path) -> Path:
    """Download the packages and unpack them below folder/documents. Returns that folder."""
    documents, archives = folder / "documents", folder / "packages"
    for path in (documents, archives):
        path.mkdir(parents=True, exist_ok=True)
    for package in list_packages():
        target, partial = documents / package, documents / f".{package}.partial"
        if target.exists():
            continue
        subprocess.run(["apt-get", "download", "--quiet", package], cwd=archives, check=True)
        shutil.rmtree(partial, ignore_errors=True)
        subprocess.run(["dpkg-deb", "-x", next(archives.glob(f"{package}_*.deb")), partial], check=True)
        partial.rename(target)
    return documents


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the packages and the run.")],
    clusters: Annotated[int, typer.Option(help="Clusters to print.")] = 20,
) -> None:
    """Fetch the documents, run the stages and write the result."""
    documents = fetch_documents(folder)
    settings = GROUNDING.config.load(None, list(SETTINGS))
    store = Store(folder / "run", GROUNDING.shared_parts)
    for name in list(GROUNDING.stage_names)[:5]:
        settings.stage(name, [str(documents)]).run(store, 0)
        print(report.line(store, name), flush=True)
    entries = report.funnel(store, list(GROUNDING.stage_names))
    seconds = sum(entry["spent"]["seconds"] for entry in entries)
    rows = [
        f"| {e['stage']} | {e['documents']} | {e['kept']} | "
        f"{', '.join(f'{k} {n}' for k, n in {**e['dropped'], **e['counts']}.items())} | {e['spent']['seconds']:.1f} |"
        for e in entries
    ]
    package_names = sorted(path.name for path in documents.iterdir())
    text = [
        "# Real documents through the first stages",
        "",
        f"`python scripts/real_documents.py FOLDER`: the files of the Debian packages {', '.join(package_names)}; "
        f"settings {' '.join(SETTINGS)}; one process on two cores, {seconds:.0f} s in all.",
        "",
        "| stage | documents in | kept | dropped, counts | seconds |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"{clusters} random clusters, the beginning of each chunk:",
        "",
        "```",
        *(line.replace(str(documents) + "/", "") for line in show.show_clusters(store, clusters, seed=0)),
        "```",
        "",
    ]
    RESULT.write_text("\n".join(text))
    print(f"written {RESULT}")


if __name__ == "__main__":
    typer.run(main)
