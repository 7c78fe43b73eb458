"""What a user may set about rewards, checked when it is set and without importing anything heavy.

Each option group is a frozen dataclass. A wrong value is refused with the value, what was expected and the
fix; `from_dict` refuses an unknown key and names the nearest valid one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from verl_longrl import secret_settings

Method = Literal["longrlvr", "outcome_only", "loongrl", "golongrl"]
AnswerBy = Literal["rule", "judge", "reward_model"]
AnswerRule = Literal["exact", "contain", "two_way", "f1"]
AnswerMode = Literal["auto", AnswerRule]
Retrieval = Literal["fraction", "all"]


def choice(name: str, value: object, kind: Any) -> None:
    """Raises ValueError, naming the option, when `value` is none of the Literal `kind`'s."""
    if value not in get_args(kind):
        raise ValueError(f"{name} = {value!r} is unknown; use one of {', '.join(get_args(kind))}")


def number(
    name: str, value: object, low: float, high: float = float("inf"), *, open_low: bool = False, whole: bool = False
) -> None:
    """Raises ValueError, naming the option, when `value` is no number from `low` to `high` (nan is none)."""
    ok = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not ok or not (low < value if open_low else low <= value) or not value <= high:  # type: ignore[operator]
        expected = f"{'above' if open_low else 'at least'} {low:g}" + (f" and at most {high:g}" if high < 1e300 else "")
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{name} = {value!r} is out of range; expected {kind} {expected}")


class Options:
    """Base of option groups: frozen dataclasses built from a plain mapping.

    `single_or_list`: names of lists for which a single text may stand.
    """

    single_or_list: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None, path: str = "") -> Self:
        """Build from a plain mapping (a resolved config node); nested groups may be mappings too.

        Raises ValueError for an unknown key, naming the nearest valid one, for a single value where a group is
        expected, naming the option it could be meant for, and for any value out of range.
        """
        types = get_type_hints(cls)
        known = {item.name for item in fields(cls) if item.init and not item.metadata.get("internal")}  # type: ignore[arg-type]
        given: dict[str, Any] = {}
        for key, value in (values or {}).items():
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
                raise ValueError(
                    f"unknown option {path}{key} = {value!r}; the nearest valid one is "
                    f"{path}{near[0]} (valid: {', '.join(sorted(known))})"
                )
            if key in cls.single_or_list and isinstance(value, str):
                value = [value]
            given[key] = _value(f"{path}{key}", value, types[key])
        return cls(**given)


def _value(name: str, value: Any, kind: Any) -> Any:
    """`value` as `kind` wants it: groups built, lists as tuples.

    Raises ValueError for a value of another kind. Ranges and choices are the option group's own business.
    """
    if get_origin(kind) in (Union, UnionType):
        if value is None and NoneType in get_args(kind):
            return None
        (kind,) = (k for k in get_args(kind) if k is not NoneType)
    if is_dataclass(kind) and not isinstance(value, kind):  # type: ignore[arg-type]
        if value is not None and not isinstance(value, Mapping):
            raise ValueError(_no_block(name, value, kind))
        return kind.from_dict(value, f"{name}.")  # type: ignore[union-attr]
    if get_origin(kind) is dict and isinstance(value, Mapping):
        return {str(key): _value(f"{name}.{key}", item, get_args(kind)[1]) for key, item in value.items()}
    if get_origin(kind) is dict and not isinstance(value, Mapping):
        raise ValueError(f"{name} = {value!r}; expected keys and values: {{key: value}}")
    if get_origin(kind) is tuple and isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_value(f"{name}[{i}]", item, get_args(kind)[0]) for i, item in enumerate(value))
    if get_origin(kind) is tuple:
        one = "string" if isinstance(value, str) else "value"
        raise ValueError(f"{name} = {value!r} is one {one}; expected a list: [{value!r}]")
    if kind in _EXPECTED and type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError(f"{name} = {value!r}; expected {_EXPECTED[kind]}")
    return value


_EXPECTED = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _no_block(name: str, value: object, group: Any) -> str:
    """What to write instead of `name=value` where a group of options is expected."""
    types = get_type_hints(group)
    keys = [item.name for item in fields(group) if not item.metadata.get("internal")]
    meant = next((key for key in keys if value in get_args(types[key])), None)
    fix = f"write {name}.{meant}={value}" if meant else f"set one of them, such as {name}.{keys[0]}=..."
    return f"{name} = {value!r} is one value, expected a group of options ({', '.join(keys)}); {fix}"


@dataclass(frozen=True)
class AnswerOptions(Options):
    """How the correctness A of an answer is decided.

    by: rule (this machine, no model), judge (an OpenAI-compatible server) or reward_model (the same, served
    by verl). mode: exact, contain (the gold answer as a token sequence inside a short answer), two_way (contain, or
    most of the gold answer), f1 (token F1 at or above f1_threshold) or auto (each task's own: two_way for LoongRL's,
    contain for all others). max_length_ratio: contain and two_way only: an answer may have at most this many times
    the informative tokens of the gold answer. skip_exact: an answer equal to the gold one after normalisation is
    right without asking the judge.
    """

    by: AnswerBy = "rule"
    mode: AnswerMode = "auto"
    f1_threshold: float = 0.8
    max_length_ratio: float = 2.0
    skip_exact: bool = True

    def __post_init__(self) -> None:
        choice("answer.by", self.by, AnswerBy)
        choice("answer.mode", self.mode, AnswerMode)
        number("answer.f1_threshold", self.f1_threshold, 0, 1, open_low=True)
        number("answer.max_length_ratio", self.max_length_ratio, 1)


@dataclass(frozen=True)
class RewardOptions(Options):
    """How a response becomes a reward.

    method: longrlvr (answer + context reward), outcome_only (answer alone; the context parts are still reported),
    loongrl or golongrl (the same; they have no context reward). eta, beta: weights of LongRLVR's context reward.
    paper_exact: LongRLVR's responses and duplicate citations are read as its released code does, LoongRL's answers
    decided by its published rule whatever answer.mode says, GoLongRL's metrics are the released ones. retrieval: what a
    list of values to be found is worth (LoongRL): fraction (recall times precision) or all (1 when it is complete and
    has nothing else, else 0). require_think: a response without `</think>` is malformed. timeout_s: seconds one
    response may take in an isolation worker. workers: isolation workers kept ready by each of verl's reward workers.
    worker_memory_gib: address space of one. scorers: modules or files that register scorers of your own.
    scorer_network: scorers may use the network and find the keys in their environment (else they have neither).
    max_failure_share: share of a step's samples that may fail before the run stops.

    verdict: A as decided by a judge; set by `score_async` for the second pass, never by a config.
    """

    single_or_list: ClassVar[frozenset[str]] = frozenset({"scorers"})

    method: Method = "longrlvr"
    eta: float = 0.1
    beta: float = 2.0
    paper_exact: bool = False
    retrieval: Retrieval = "fraction"
    require_think: bool = False
    answer: AnswerOptions = field(default_factory=AnswerOptions)
    timeout_s: float = 5.0
    workers: int = 4
    worker_memory_gib: float = 4.0
    scorers: tuple[str, ...] = ()
    scorer_network: bool = False
    max_failure_share: float = 0.25
    verdict: float | None = field(default=None, metadata={"internal": True})

    def __post_init__(self) -> None:
        choice("method", self.method, Method)
        choice("retrieval", self.retrieval, Retrieval)
        number("eta", self.eta, 0, 1)
        number("beta", self.beta, 0, open_low=True)
        number("timeout_s", self.timeout_s, 0, open_low=True)
        number("workers", self.workers, 1, 256, whole=True)
        number("worker_memory_gib", self.worker_memory_gib, 0.25)
        number("max_failure_share", self.max_failure_share, 0, 1)
        if isinstance(self.scorers, str):
            raise ValueError(f"scorers = {self.scorers!r} is one string; expected a list: [{self.scorers!r}]")
        if self.verdict is not None:
            number("verdict", self.verdict, 0, 1)


@dataclass(frozen=True)
class ServerOptions(Options):
    """Where a model is served and how it is asked.

    endpoints: one or several OpenAI-compatible base URLs (https://host/v1). model: the name they serve; ""
    asks the first endpoint for the one model it serves. api_key_env: the environment variable that holds the
    key (servers of your own need none). concurrency: requests in flight over all endpoints. timeout_s: per attempt.
    attempts: per request, over all endpoints. backoff_s, max_backoff_s: waits between attempts grow from the one to
    the other. cooldown_s: how long an endpoint that failed to answer is left alone.
    """

    single_or_list: ClassVar[frozenset[str]] = frozenset({"endpoints"})

    endpoints: tuple[str, ...] = ()
    model: str = ""
    api_key_env: str = "LONGRL_API_KEY"
    concurrency: int = 64
    timeout_s: float = 60.0
    attempts: int = 4
    backoff_s: float = 0.5
    max_backoff_s: float = 20.0
    cooldown_s: float = 10.0

    @property
    def block(self) -> str:
        """The name of this block in the user's configuration, for messages."""
        return "server"

    def __post_init__(self) -> None:
        if isinstance(self.endpoints, str):
            object.__setattr__(self, "endpoints", (self.endpoints,))
        secret_settings.refuse({self.block: {"endpoints": self.endpoints}})
        for url in self.endpoints:
            if not str(url).startswith(("http://", "https://")):
                shown = str(url).rpartition("@")[2]  # what is before it may be a password
                raise ValueError(
                    f"{self.block}.endpoints has {shown!r}; expected a base URL such as http://host:8000/v1 (with the "
                    "scheme)"
                )
        number(f"{self.block}.timeout_s", self.timeout_s, 0, open_low=True)
        for name in ("concurrency", "attempts"):
            number(f"{self.block}.{name}", getattr(self, name), 1, whole=True)
        for name in ("backoff_s", "max_backoff_s", "cooldown_s"):
            number(f"{self.block}.{name}", getattr(self, name), 0)


@dataclass(frozen=True)
class JudgeOptions(ServerOptions):
    """Where the judge is and how it is asked; see ServerOptions.

    concurrency: in training, over all reward workers, each of which gets an equal share, rounded up. max_tokens:
    room for the judge's reasoning and verdict. cache_size: verdicts remembered by each reward worker; a prompt's
    rollouts may be spread over workers, so the same answer may be judged once in each. max_candidate_chars,
    max_context_chars: longer texts are cut. patience_minutes: how long a judge that is away (no reply, overwhelmed,
    out of service) is waited for; 0: its failures count at once.
    """

    api_key_env: str = "LONGRL_JUDGE_API_KEY"
    temperature: float = 0.0
    max_tokens: int = 2048
    cache_size: int = 65536
    max_candidate_chars: int = 4000
    max_context_chars: int = 12000
    patience_minutes: float = 30.0

    @property
    def block(self) -> str:
        return "judge"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_tokens", "max_candidate_chars"):
            number(f"judge.{name}", getattr(self, name), 1, whole=True)
        for name in ("cache_size", "max_context_chars"):
            number(f"judge.{name}", getattr(self, name), 0, whole=True)
        number("judge.patience_minutes", self.patience_minutes, 0)
        number("judge.temperature", self.temperature, 0)
