"""Load the tokenizer that counts lengths: that of the trained model, or one that ships with an installed package."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BUILTIN = "builtin"


class TokenizerError(ValueError):
    """The tokenizer does not exist, or lacks the fast backend that spans need."""


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """A transformers fast tokenizer.

    name: a folder, a name on the hub, or "builtin": Llama 2's vocabulary as shipped with the wordllama package, which
    needs no network but has no chat template, so it cannot count whole prompts.

    Raises:
        TokenizerError: not found, or not a fast tokenizer.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer: Any
    if name == BUILTIN:
        (file,) = builtin_folder().glob("tokenizers/l2_supercat_*.json")
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file))
        return _without_limits(tokenizer)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise TokenizerError(
            f"tokenizer {name}: {str(error).splitlines()[0]}. Fix: give the folder or hub name of the model to be "
            f"trained (tokenizer=PATH), or tokenizer={BUILTIN} to try the first stages without a network"
        ) from error
    if not tokenizer.is_fast:
        raise TokenizerError(
            f"tokenizer {name} is {type(tokenizer).__name__}, without the fast backend that chunk spans need. Fix: use "
            "a copy of it that has a tokenizer.json"
        )
    return _without_limits(tokenizer)


def _without_limits(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer without the truncation and padding that it may have been saved with."""
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def builtin_folder() -> Path:
    """The folder of the wordllama package, which is not imported because that would reconfigure logging."""
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise TokenizerError("the package wordllama is not installed. Fix: run bash scripts/setup.sh")
    return Path(spec.origin).parent
