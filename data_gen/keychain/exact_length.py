"""Compose a prompt whose length is exact: by sums of its parts, or where these are not exact by counting it whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from data_gen.text import derive_seed

SLACK = 0.01
"""A prompt may be up to this share of its budget too short, and never too long."""
CHECK_EVERY = 100
Counting = Literal["auto", "sums", "whole"]


class ComposeError(ValueError):
    """Prompts of this length cannot be made; the message says why and what to change."""


class Unfillable(ComposeError):
    """The prompt of this question cannot be made, but others can. `reason`: a fixed word to count it by."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class Counted(Protocol):
    """A prompt, a dataclass, with its length."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def tokens(self) -> int: ...


Prompt = TypeVar("Prompt", bound=Counted)


def is_checked(seed: int, name: str) -> bool:
    """Whether the prompt of this name is counted whole although sums are exact: one of every hundred. That follows from
    its name, so a resumed run checks the same prompts."""
    return derive_seed(seed, "check", name) % CHECK_EVERY == 0


def compose_exactly(
    compose: Callable[[int], Prompt],
    count: Callable[[Prompt], int],
    budget: int,
    *,
    by_sums: bool,
    check: bool,
    name: str,
) -> Prompt:
    """A prompt of at most `budget` tokens, and at most SLACK less, with its exact length.

    Args:
        compose: a prompt whose parts add up to at most this many tokens.
        count: tokens of a whole prompt.
        by_sums: whether sums are exact; then only prompts to `check` are counted.
        name: of the prompt, in messages.

    Raises Unfillable; ComposeError when sums turn out not to be exact.
    """
    # `target` is what the sum aims at, `budget` what the whole prompt must have.
    target = budget
    for _ in range(10):
        prompt = compose(target)
        if by_sums and not check:
            return prompt
        tokens = count(prompt)
        if by_sums and tokens != prompt.tokens:
            raise ComposeError(
                f"{name}: the prompt has {tokens} tokens, but the sum of its parts is {prompt.tokens}: sums "
                "are not exact for this tokenizer. Fix: set compose.counting=whole and rerun with --redo"
            )
        if (1 - SLACK) * budget <= tokens <= budget:
            return replace(prompt, tokens=tokens)
        # Not by sums: the sum is off by roughly the same number of tokens in the next try, so aim off by it. For
        # example a prompt of 1,010 tokens for a budget of 1,000 makes the next target 990.
        target += budget - tokens
    raise Unfillable("no_filling", f"no prompt of {budget} tokens found in ten tries")
