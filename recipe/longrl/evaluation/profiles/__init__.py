"""Profiles: the sets, lengths, samples, sampling and aggregates of one protocol, as YAML files.

A figure always names its profile, and figures of two profiles are never averaged.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass
from verl_longrl.options import Options

from recipe.longrl.evaluation.errors import EvaluationError
from recipe.longrl.evaluation.judge.options import EvaluationJudgeOptions

SHIPPED = Path(__file__).parent

AnswerPrefix = Literal["append", "continue", "off"]
OverWindow = Literal["fail", "skip", "middle"]
Slice = Literal["all", "development", "reported"]


class ProfileError(EvaluationError):
    """A profile is missing or has a wrong value; the message has the fix."""


@dataclass(frozen=True)
class Sampling(Options):
    """Fields of a request that decide how an answer is drawn."""

    temperature: NonNegativeFloat = 0.0
    """Sampling temperature; 0 is greedy decoding."""
    top_p: NonNegativeFloat = 1.0
    """Nucleus sampling threshold."""
    extra: dict[str, Any] = field(default_factory=dict)
    """More fields of the request, such as {top_k: 20, chat_template_kwargs: {enable_thinking: false}}."""


@dataclass(frozen=True)
class SetOptions(Options):
    """One set of a profile: a benchmark with its options."""

    benchmark: str
    """The benchmark's name, or MODULE:ATTRIBUTE for a benchmark of your own."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the benchmark's rows, such as {lengths: [4096], samples: 100, tasks: [qa_1]}."""
    rule: str = ""
    """The rule of the headline; "": the benchmark's first."""
    aggregate: Literal["rows", "cells"] = "rows"
    """The headline is the mean over rows, or the mean of the cells' means."""
    repeats: PositiveInt = 1
    """Answers for each row, with the seeds seed, seed + 1, ..."""
    slice: Slice = "all"
    """Which documents, articles or questions: a fixed fifth (development, which training looks at), the others
    (reported), or all."""
    limit: PositiveInt | None = None
    """Only the first rows; null: all."""
    max_tokens: PositiveInt | None = None
    """Longest answer in tokens; null: as the benchmark says."""
    answer_prefix: AnswerPrefix = "append"
    """The place of a row's answer prefix. append: it ends the last user message. continue: the answer continues it
    (vLLM's continue_final_message). off: it is not sent."""
    over_window: OverWindow = "fail"
    """A prompt that exceeds the window together with its answer. fail: the run ends before anything is sent. skip: the
    row is not sent and counts as failed. middle: tokens in the middle of the longest message are removed."""
    closed_book: bool = False
    """Ask every row a second time without its documents, as the set NAME.closed_book."""
    sampling: Sampling = field(default_factory=Sampling)
    judge: tuple[EvaluationJudgeOptions, ...] = ()
    """Judges of this set: one, or a list; empty: those of the profile. Each makes a figure of its own."""


@dataclass(frozen=True)
class Profile(Options):
    """One protocol."""

    name: str
    source: str = ""
    """Where the protocol is described."""
    sets: dict[str, SetOptions] = field(default_factory=dict)
    average: tuple[str, ...] = ()
    """Sets whose headlines are averaged with equal weights; empty: no average is reported."""
    unstated: tuple[str, ...] = ()
    """Settings that the source does not state, with the value that is used instead."""
    seed: int = 42
    judge: tuple[EvaluationJudgeOptions, ...] = ()
    """Judges of all sets whose benchmark leaves answers to a judge: one, or a list; empty: rules alone."""


def shipped_profiles() -> list[str]:
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def read_profile(
    name: str,
    overrides: Sequence[str] | dict[str, Any] = (),
    *,
    defaults: Mapping[str, Any] | None = None,
    place: str = "--profile",
) -> Profile:
    """Read a shipped profile or a YAML file.

    overrides: `sets.ruler.options.samples=10`, or keys and values. defaults: keys that the file may set. place: the key
    that names the profile, for messages. Raises ProfileError.
    """
    path = SHIPPED / f"{name}.yaml"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        raise ProfileError(
            f"{place} = {name}: not found. Fix: one of {', '.join(shipped_profiles())}, or the path of a YAML file"
        )
    try:
        given = OmegaConf.create(overrides) if isinstance(overrides, dict) else OmegaConf.from_dotlist(list(overrides))
        loaded = OmegaConf.load(path)
        _replace_judges(loaded, given, "judge")
        values: Any = OmegaConf.to_container(OmegaConf.merge(defaults or {}, loaded, given), resolve=True)
        _list_judges(values)
        profile = Profile.from_dict({"name": path.stem, **values}, "")
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise ProfileError(f"{path}: {error}") from error
    if unknown := sorted({*profile.average} - {*profile.sets}):
        raise ProfileError(f"{path}: average = {unknown}: not sets of the profile. Fix: {', '.join(profile.sets)}")
    return profile


def _replace_judges(loaded: Any, given: Any, key: str) -> None:
    """In place: a list of judges in the overrides replaces the one that the profile has. Raises ProfileError."""
    if OmegaConf.is_list(given.get("judge")):
        loaded.pop("judge", None)
    elif OmegaConf.is_dict(given.get("judge")) and OmegaConf.is_list(loaded.get("judge")):
        raise ProfileError(f"{key}: the profile has a list of judges. Fix: {key}=[{{...}}, ...] with all of their keys")
    for name, options in (given.get("sets") or {}).items():
        if OmegaConf.is_dict(options) and name in (loaded.get("sets") or {}):
            _replace_judges(loaded.sets[name], options, f"sets.{name}.judge")


def _list_judges(values: dict[str, Any]) -> None:
    """In place: one judge, of the profile or of a set, as a list of one."""
    for group in (values, *(values.get("sets") or {}).values()):
        if isinstance(group, dict) and isinstance(group.get("judge"), dict):
            group["judge"] = [group["judge"]]


def choose_sets(profile: Profile, names: Sequence[str]) -> dict[str, SetOptions]:
    """The named sets in the profile's order; all without names. Raises ProfileError for an unknown name."""
    for name in names:
        if name not in profile.sets:
            close = difflib.get_close_matches(name, profile.sets, 1) or [", ".join(profile.sets)]
            raise ProfileError(f"--sets = {name}: profile {profile.name} has no such set. Fix: {close[0]}")
    return {name: options for name, options in profile.sets.items() if not names or name in names}
