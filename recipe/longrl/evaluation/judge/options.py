"""The options of a judge. Importing them is cheap."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass
from verl_longrl.options import OneOrMore, Options
from verl_longrl.rewards.options import JudgeOptions

ProtocolName = Literal["fenced", "aa_lcr", "corpusqa"]


@dataclass(frozen=True)
class EvaluationJudgeOptions(Options):
    """A judge of answers, on OpenAI-compatible servers. Its temperature is 0."""

    servers: OneOrMore = ()
    """Base URLs, such as http://host:8000/v1."""
    model: str = ""
    """The name that the servers know the judge by; "": the only model that they serve."""
    api_key_env: str = JudgeOptions.api_key_env
    """The environment variable that holds the servers' key."""
    revision: str = ""
    """The revision of the judge's weights, which cannot be read from outside; recorded as stated."""
    prompt: ProtocolName = "fenced"
    """fenced: this project's own, which an answer cannot manipulate. aa_lcr, corpusqa: as published by the authors of
    these benchmarks, for comparison with their figures; an answer can manipulate them."""
    tokenizer: str = ""
    """Folder or hub name of the judge's tokenizer, to count its prompts; "": as if each byte were a token."""
    window: PositiveInt | None = None
    """Tokens of prompt and reply; null: as the servers say."""
    max_tokens: PositiveInt = JudgeOptions.max_tokens
    """Most tokens of the judge's reasoning and verdict."""
    max_candidate_chars: PositiveInt = JudgeOptions.max_candidate_chars
    """The middle of a longer answer is left out, in characters, and the report counts such answers."""
    extra: dict[str, Any] = field(default_factory=dict)
    """More fields of the request, such as {chat_template_kwargs: {enable_thinking: false}}."""
