"""Know the length of every prompt without tokenizing 100K-token prompts at every start.

A file written by LongRL has the length of each prompt and the fingerprint of the tokenizer that counted it. If that is
the tokenizer, chat template and template options of this run, the stored lengths are used. Otherwise the prompts are
counted once, and the result is cached under (fingerprint, content of the file, prompt column), so that a count never
outlives a change of the template or the file.

Counting is exact: the chat template with the generation prompt, tokenized as in the agent loop. Prompts are tokenized
in batches by the threads of the tokenizer, which release the interpreter lock, without forks or pickling. A tokenizer
without such a backend, or whose own encoding differs from it, counts one prompt at a time.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from verl_longrl.data.progress import progress_bar
from verl_longrl.data.schema import Message, read_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CACHE_DIR = Path("~/.cache/verl/rlhf")
"""Default of verl's `data.cache_dir`."""
BATCH = 64
"""Prompts tokenized together."""
DIGEST_BYTES = 16


class PromptCounter:
    """Counts and encodes prompts as the model sees them.

    Args:
        tokenizer: a transformers tokenizer with a chat template. It is not modified.
        chat_template_kwargs: `data.apply_chat_template_kwargs`, plus `tools` if the agent loop passes any.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat_template_kwargs: Mapping[str, Any] | None = None):
        self.tokenizer = tokenizer
        self.kwargs = dict(chat_template_kwargs or {})
        self.fingerprint = tokenizer_fingerprint(tokenizer, self.kwargs)
        self._backend = None
        self._backend_checked = False
        if getattr(tokenizer, "is_fast", False):
            # A copy, because truncation and padding are settings of the backend and the caller may use them.
            self._backend = copy.deepcopy(tokenizer.backend_tokenizer)
            self._backend.no_truncation()
            self._backend.no_padding()

    def count(self, prompts: Sequence[list[Message]]) -> list[int]:
        """Number of tokens of each chat prompt, generation prompt included."""
        return [len(encoding) for encoding in self._encode(prompts)]

    def encode(self, prompts: Sequence[list[Message]]) -> list[list[int]]:
        """Token ids of each chat prompt, generation prompt included."""
        return [encoding if isinstance(encoding, list) else encoding.ids for encoding in self._encode(prompts)]

    def _encode(self, prompts: Sequence[list[Message]]) -> Sequence[Any]:
        """Lists of ids, or encodings of the backend, whose ids are converted to Python's numbers only on demand."""
        if not prompts:
            return []
        # A tokenizer class may do more than its backend. The first prompt shows whether both give the same.
        if self._backend is not None and not self._backend_checked:
            self._backend_checked = True
            if self._encode_batch(prompts[:1])[0].ids != self._encode_one(prompts[0]):
                self._backend = None
        if self._backend is None:
            return [self._encode_one(prompt) for prompt in prompts]
        return self._encode_batch(prompts)

    def _encode_one(self, prompt: list[Message]) -> list[int]:
        ids: Any = self.tokenizer.apply_chat_template(
            prompt, add_generation_prompt=True, tokenize=True, return_dict=False, **self.kwargs
        )
        return list(ids)

    def _encode_batch(self, prompts: Sequence[list[Message]]) -> Sequence[Any]:
        assert self._backend is not None
        texts = [
            self.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False, **self.kwargs)
            for prompt in prompts
        ]
        encodings: Sequence[Any] = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return encodings


def tokenizer_fingerprint(
    tokenizer: PreTrainedTokenizerBase, chat_template_kwargs: Mapping[str, Any] | None = None
) -> str:
    """32 hex digits that change with anything that changes a prompt's tokens.

    Covered: the tokenizer's model, vocabulary, normalizer and added tokens, its special tokens, its chat template and
    the template's options. Not covered: truncation and padding settings, which are not used, and the padding token,
    which verl sets where a tokenizer has none, unless the chat template uses it.
    """
    if getattr(tokenizer, "is_fast", False):
        backend = json.loads(tokenizer.backend_tokenizer.to_str())
        identity: Any = {k: v for k, v in backend.items() if k not in ("truncation", "padding")}
    else:
        identity = [type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())]
    template = str(tokenizer.chat_template)
    unused = set() if "pad_token" in template else {"pad_token"}
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if name not in unused}
    parts = [identity, special, tokenizer.chat_template, dict(chat_template_kwargs or {})]
    return _digest(json.dumps(parts, sort_keys=True).encode()).hex()


def stored_lengths(path: str | Path, fingerprint: str) -> np.ndarray | None:
    """The `prompt_tokens` in the file, int32 of shape (rows,), if all were counted under `fingerprint`; else None."""
    columns = ["prompt_tokens", "tokenizer_fingerprint"]
    if not set(columns) <= set(pq.read_schema(path).names):
        return None
    table = pq.read_table(path, columns=columns)
    tokens = table["prompt_tokens"]
    if tokens.null_count or table["tokenizer_fingerprint"].unique().to_pylist() != [fingerprint]:
        return None
    return tokens.to_numpy().astype(np.int32)


def prompt_lengths(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    cache_dir: str | Path = CACHE_DIR,
    prompt_key: str = "prompt",
) -> np.ndarray:
    """Tokens of every prompt in a parquet file, int32 of shape (rows,): stored, else cached, else counted.

    Counting shows its progress, and the result is cached under `cache_dir`/prompt_lengths. With a damaged cache entry
    the prompts are counted again. The tokenizers library decides the number of threads (RAYON_NUM_THREADS).

    Raises:
        ValueError: the chat template refuses a prompt; the message has the rows.
    """
    counter = PromptCounter(tokenizer, chat_template_kwargs)
    if (stored := stored_lengths(path, counter.fingerprint)) is not None:
        return stored
    with open(path, "rb") as file:
        content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()
    key = _digest(json.dumps([counter.fingerprint, content, prompt_key]).encode()).hex()
    entry = Path(cache_dir).expanduser() / "prompt_lengths" / f"{key}.bin"
    rows = pq.read_metadata(path).num_rows
    if (cached := _load(entry, rows)) is not None:
        return cached
    print(f"{path}: lengths are not of this tokenizer and chat template; counting {rows} prompts once", flush=True)
    prompts = (row[prompt_key] for row in read_rows(path, [prompt_key]))
    lengths = np.fromiter(_count_all(counter, prompts, rows, path), dtype=np.int32, count=rows)
    _save(entry, lengths)
    return lengths


def _count_all(counter: PromptCounter, prompts: Iterable[list[Message]], rows: int, path: str | Path) -> Iterator[int]:
    from jinja2 import TemplateError

    prompts, done = iter(prompts), 0
    with progress_bar(f"counting tokens of {Path(path).name}", rows, "rows", log=False) as advance:
        while batch := list(islice(prompts, BATCH)):
            try:
                yield from counter.count(batch)
            except TemplateError as error:
                raise ValueError(
                    f"{path}: rows {done} to {done + len(batch) - 1}: the chat template refuses a prompt "
                    f"({error}). Fix: give the roles in the order that the template requires"
                ) from error
            done += len(batch)
            advance(len(batch))


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def _save(entry: Path, lengths: np.ndarray) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    data = lengths.astype("<i4").tobytes()
    # The entry appears under its name only when it is complete, so that another process never reads a part of it.
    temporary = entry.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(_digest(data) + data)
    os.replace(temporary, entry)


def _load(entry: Path, rows: int) -> np.ndarray | None:
    if not entry.exists():
        return None
    raw = entry.read_bytes()
    digest, data = raw[:DIGEST_BYTES], raw[DIGEST_BYTES:]
    if _digest(data) != digest or len(data) != 4 * rows:
        print(f"{entry}: the cached prompt lengths are damaged; counting again", file=sys.stderr, flush=True)
        return None
    return np.frombuffer(data, dtype="<i4").astype(np.int32)
