"""Embed texts as unit vectors: with sentence-transformers, an embeddings server, or static vectors without a GPU.

A batch that fails is an error and never becomes zeros: a request to a server is retried (see `llm.py`), and the run
stops if it keeps failing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from data_gen.llm import LLM, LLMOptions
from data_gen.tokenizer import BUILTIN, builtin_folder, load_tokenizer


class EncoderError(ValueError):
    """The encoder cannot be loaded, or returned an invalid embedding; the message says what to do."""


class Encoder(Protocol):
    """Anything that embeds texts."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, float32 of shape (texts, dimensions)."""
        ...


class SentenceTransformerEncoder:
    """A sentence-transformers model (BGE-M3 in the paper), on the GPU if there is one. When a batch does not fit into
    its memory, the batch size is halved."""

    def __init__(self, model: str, batch_size: int):
        from sentence_transformers import SentenceTransformer

        try:
            self._model: Any = SentenceTransformer(model)
        except (OSError, ValueError) as error:
            raise EncoderError(
                f"embed.model = {model}: {str(error).splitlines()[0]}. Fix: give a folder or a name on the hub, or set "
                "embed.backend=server or embed.backend=static, which need no download"
            ) from error
        self._batch_size = batch_size

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        import torch

        while True:
            try:
                vectors = self._model.encode(list(texts), batch_size=self._batch_size, show_progress_bar=False)
                return _unit(np.asarray(vectors))
            except torch.OutOfMemoryError:
                if self._batch_size == 1:
                    raise
                self._batch_size //= 2
                torch.cuda.empty_cache()


class StaticEncoder:
    """WordLlama's static token vectors, averaged (256 dimensions, trained from large models' embedding tables). They
    ship with the package, so they need no network, and one core embeds thousands of chunks per second."""

    def __init__(self) -> None:
        from safetensors.numpy import load_file

        (weights,) = builtin_folder().glob("weights/*_256.safetensors")
        self._vectors = load_file(weights)["embedding.weight"].astype(np.float32)
        self._tokenizer = load_tokenizer(BUILTIN).backend_tokenizer

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        return _unit(np.stack([self._vectors[i].mean(axis=0) for i in ids]))


class ServerEncoder:
    """An OpenAI-compatible embeddings endpoint; all batches are requested concurrently."""

    def __init__(self, options: LLMOptions, batch_size: int):
        self._options, self._batch_size = options, batch_size

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return _unit(asyncio.run(self._encode(texts)))

    def served_model(self) -> str:
        """The name of the model that the endpoint serves. Raises ServersGone."""

        async def request_name() -> str:
            llm = LLM(self._options)
            try:
                await llm.open()
                return llm.model
            finally:
                await llm.close()

        return asyncio.run(request_name())

    async def _encode(self, texts: Sequence[str]) -> np.ndarray:
        llm = LLM(self._options)
        try:
            await llm.open()
            batches = [texts[i : i + self._batch_size] for i in range(0, len(texts), self._batch_size)]
            return np.concatenate(await asyncio.gather(*(llm.embed(batch) for batch in batches)))
        finally:
            await llm.close()


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1. Raises EncoderError for vectors without a direction (zero, infinite or nan)."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        row = int(np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))[0])
        raise EncoderError(f"the embedding of text {row} has length {float(lengths[row, 0])}: the encoder is broken")
    return (vectors / lengths).astype(np.float32)
