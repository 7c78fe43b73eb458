"""The first stages on real documents: the manuals and books that Debian packages.

    python scripts/real_documents.py FOLDER [--clusters 20]

Downloads documentation packages (apt-get download, no root), reads their text and HTML through ingest, dedup, chunk,
embed and cluster with the built-in tokenizer and static vectors, and writes docs/results/real_documents.md: counts,
times, and 20 clusters to judge by eye. Needs a Debian machine with its package mirror.
"""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from data_gen.grounding import card, show
from data_gen.grounding.config import PARTS_OF, STAGES, load
from data_gen.store import Store

PACKAGES = (
    "debian-handbook",
    "debian-reference-en",
    "debian-policy",
    "developers-reference",
    "git-doc",
    "postgresql-doc-15",
    "python3.11-doc",
    "sqlite3-doc",
)
SETTINGS = ("tokenizer=builtin", "embed.backend=static", "chunk.max_tokens=128", "cluster.center=true")
RESULT = Path("docs/results/real_documents.md")


def fetch(folder: Path) -> Path:
    """The packages' files under folder/documents."""
    documents = folder / "documents"
    documents.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        target = documents / package
        if target.exists():
            continue
        (folder / "packages").mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["apt-get", "download", package], cwd=folder / "packages", capture_output=True, text=True)
        found = list((folder / "packages").glob(f"{package}_*.deb"))
        if done.returncode or not found:
            print(f"{package}: not available here ({done.stderr.strip().splitlines()[-1:]})", file=sys.stderr)
            continue
        subprocess.run(["dpkg-deb", "-x", found[0], target], check=True)
    return documents


def main(
    folder: Annotated[Path, typer.Argument(help="Where packages and the run are kept.")],
    clusters: Annotated[int, typer.Option(help="Clusters to print.")] = 20,
) -> None:
    """Fetch, run, write the result."""
    documents = fetch(folder)
    settings = load(None, list(SETTINGS))
    store = Store(folder / "run", PARTS_OF)
    for name in STAGES[:5]:
        settings.stage(name, [str(documents)], store.root, 0).run(store, 0)
        print(card.line(store, name), flush=True)
    entries = card.funnel(store)
    seconds = sum(entry["spent"]["seconds"] for entry in entries)
    rows = [
        f"| {e['stage']} | {e['documents']} | {e['kept']} | "
        f"{', '.join(f'{k} {n}' for k, n in {**e['dropped'], **e['counts']}.items())} | {e['spent']['seconds']:.1f} |"
        for e in entries
    ]
    text = [
        "# Real documents through the first stages",
        "",
        f"`python scripts/real_documents.py FOLDER`: the files of the Debian packages {', '.join(PACKAGES)}; "
        f"settings {' '.join(SETTINGS)}; one process on two cores, {seconds:.0f} s in all.",
        "",
        "| stage | documents in | kept | dropped, counts | seconds |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"{clusters} random clusters, the beginning of each chunk:",
        "",
        "```",
        *(line.replace(str(documents) + "/", "") for line in show.clusters(store, clusters, seed=0)),
        "```",
        "",
    ]
    RESULT.write_text("\n".join(text))
    print(f"written {RESULT}")


if __name__ == "__main__":
    typer.run(main)
