"""Options of rewards and of the servers that judge answers. Importing them is cheap."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from verl_longrl import secret_settings
from verl_longrl.options import INTERNAL, OneOrMore, OptionError, Options, Share

Method = Literal["longrlvr", "outcome_only", "loongrl", "golongrl"]
AnswerBy = Literal["rule", "judge", "reward_model"]
AnswerRule = Literal["exact", "contain", "two_way", "f1"]
AnswerMode = Literal["auto", AnswerRule]
Retrieval = Literal["fraction", "all"]


@dataclass(frozen=True)
class AnswerOptions(Options):
    """How the correctness A of an answer is decided."""

    by: AnswerBy = "rule"
    """rule: by comparing strings, without a model. judge: by a model on any OpenAI-compatible server (`longrl.judge`).
    reward_model: the same, on a server that verl starts on GPUs of its own."""
    mode: AnswerMode = "auto"
    """The rule. exact: equal after normalisation. contain: the gold answer, and around it only words that claim
    nothing, such as the question's. two_way: contain, or the gold answer without words that are harmless to leave out.
    f1: token F1 of at least `f1_threshold`. auto: the task's own rule (two_way for LoongRL's tasks, contain for all
    others)."""
    f1_threshold: Annotated[float, Gt(0), Le(1)] = 0.8
    """Least token F1 of a correct answer, for mode f1."""
    max_length_ratio: Annotated[float, Ge(1)] = 2.0
    """For contain and two_way: an answer may have at most this many times the informative tokens of the gold answer and
    the question together."""
    skip_exact: bool = True
    """An answer that equals the gold answer after normalisation is correct without asking the judge."""


@dataclass(frozen=True)
class RewardOptions(Options):
    """How a response becomes a reward."""

    method: Method = "longrlvr"
    """longrlvr: answer and context reward. outcome_only: the answer alone; the context parts are still logged. loongrl,
    golongrl: the same, for tasks that have no context reward."""
    eta: Share = 0.1
    """Weight of LongRLVR's context reward for a wrong answer: reward = A + eta * F + (1 - eta) * A * F."""
    beta: PositiveFloat = 2.0
    """Weight of recall against precision in the context reward F, the F_beta score of the cited chunks."""
    paper_exact: bool = False
    """Score as published. LongRLVR: responses and duplicate citations are read as its released code reads them.
    LoongRL: its published rule decides, whatever `answer.mode` says. GoLongRL: the released metrics."""
    require_think: bool = False
    """A response without `</think>` is malformed."""
    answer: AnswerOptions = field(default_factory=AnswerOptions)
    retrieval: Retrieval = "fraction"
    """Reward for a list of values to be found (`loongrl_retrieval`). fraction: recall times precision. all: 1 when the
    list is complete and has nothing else, otherwise 0."""
    timeout_s: PositiveFloat = 5.0
    """Seconds for scoring one response. A scorer that needs longer is killed, and the score counts as failed."""
    workers: Annotated[int, Ge(1), Le(256)] = 4
    """Isolated scorer processes of each of verl's reward workers."""
    worker_memory_gib: Annotated[float, Ge(0.25)] = 4.0
    """Address space of one scorer process, in GiB."""
    scorers: OneOrMore = ()
    """Modules or files that register your own scorers with `@scorer`."""
    scorer_network: bool = False
    """Scorers may use the network and read secrets from their environment; false: they have neither."""
    max_failure_share: Share = 0.25
    """A step with a larger share of failed scores (timeout, judge or scorer error) saves a checkpoint and stops the
    run."""
    verdict: Annotated[Share, INTERNAL] | None = None
    """The correctness that a judge decided; `score_async` sets it for the second pass."""


@dataclass(frozen=True)
class ServerOptions(Options):
    """A model on one or more OpenAI-compatible servers."""

    endpoints: OneOrMore = ()
    """Base URLs, such as http://host:8000/v1."""
    model: str = ""
    """The name that the servers know the model by; "": the one model that the first server has."""
    api_key_env: str = "LONGRL_API_KEY"
    """The environment variable that holds the key. Your own servers need none."""
    concurrency: PositiveInt = 64
    """Requests in flight, over all endpoints."""
    timeout_s: PositiveFloat = 60.0
    """Timeout of one attempt, in seconds."""
    attempts: PositiveInt = 4
    """Attempts of one request, over all endpoints."""
    backoff_s: NonNegativeFloat = 0.5
    """Longest wait before the second attempt, in seconds. It doubles with each attempt."""
    max_backoff_s: NonNegativeFloat = 20.0
    """Longest wait between two attempts, in seconds."""
    cooldown_s: NonNegativeFloat = 10.0
    """Seconds for which an endpoint that failed to answer gets no requests."""

    @property
    def block(self) -> str:
        """The name of this group in the user's configuration, for messages."""
        return "server"

    def __post_init__(self) -> None:
        secret_settings.refuse_secrets({"endpoints": self.endpoints})
        for url in self.endpoints:
            if not url.startswith(("http://", "https://")):
                shown = url.rpartition("@")[2]  # what is before it may be a password
                raise OptionError("endpoints", [shown], "expected base URLs with a scheme", "write http://host:8000/v1")


@dataclass(frozen=True)
class JudgeOptions(ServerOptions):
    """The judge of answers, used when `reward.answer.by` is judge or reward_model. In training, `concurrency` is over
    all reward workers: each gets an equal share, rounded up."""

    api_key_env: str = "LONGRL_JUDGE_API_KEY"
    """The environment variable that holds the key. Your own servers need none."""
    temperature: NonNegativeFloat = 0.0
    """Sampling temperature."""
    max_tokens: PositiveInt = 2048
    """Most tokens of the judge's reasoning and verdict."""
    cache_size: NonNegativeInt = 65536
    """Verdicts that each reward worker remembers. Rollouts of one prompt may be in several workers, so each of them may
    ask about the same answer once."""
    max_candidate_chars: PositiveInt = 4000
    """Longer answers are cut, in characters."""
    max_context_chars: NonNegativeInt = 12000
    """Longer contexts are cut, in characters."""
    patience_minutes: NonNegativeFloat = 30.0
    """How long the run waits for a judge that is away (no reply, overloaded, out of service). Then it saves a
    checkpoint and ends with status 75. 0: the judge's failures count at once."""

    @property
    def block(self) -> str:
        return "judge"
