"""The `longrl:` block of the run configuration, checked as a whole before anything starts.

verl's configuration has 886 keys and answers a mistyped one with "Key not in struct". Ours are the tens of keys
below; an unknown one is refused with the nearest valid name, a wrong value with what was expected. Needs neither
torch nor Ray nor verl.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from verl_longrl.data.sampler import MixOptions
from verl_longrl.engine.supported import ENGINES
from verl_longrl.rewards.options import JudgeOptions, Options, RewardOptions, number
from verl_longrl.trainer.advantage import AdvantageOptions
from verl_longrl.trainer.health import WatchOptions


@dataclass(frozen=True)
class LongRLConfig(Options):
    """Everything under `longrl:`.

    output_dir: where the run writes. engine: of the trainer, one of `engine.exactness.ENGINES`, or auto: the best that
    is exact. prompt_affinity: a prompt's rollouts go to one vLLM replica, which prefills it once. advantage, mix,
    reward, judge: see their classes. rope: RoPE scaling for trainer and vLLM alike (None: as the model's config says).
    max_filtered_batches: with algorithm.filter_groups, a step that filters out the groups of this many batches stops
    the run (None: never). carry_steps: for how many steps groups that passed the filter and found no place in the batch
    are kept. checkpoints_to_keep: newest whole ones kept (None: all). log_rollouts: write every rollout with its reward
    parts. watchdog_minutes: a run that stands still so long says where (0: never). watch: see its class. export: write
    the final weights as a Hugging Face folder. trust_folder: run also in folders that others can write in.
    gpu_memory_gib: memory of one GPU, used for estimates where no GPU can be asked (a dry run).
    """

    output_dir: str
    engine: str = "auto"
    prompt_affinity: bool = True
    advantage: AdvantageOptions = field(default_factory=AdvantageOptions)
    mix: MixOptions = field(default_factory=MixOptions)
    reward: RewardOptions = field(default_factory=RewardOptions)
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    rope: dict[str, Any] | None = None
    max_filtered_batches: int | None = 10
    carry_steps: int = 0
    checkpoints_to_keep: int | None = 3
    log_rollouts: bool = True
    watchdog_minutes: float = 10.0
    watch: WatchOptions = field(default_factory=WatchOptions)
    export: bool = True
    trust_folder: bool = False
    gpu_memory_gib: float = 80.0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None, path: str = "longrl.") -> Self:
        """`Options.from_dict`, whose errors name an option as a user writes it: longrl.reward.answer.by."""
        return super().from_dict(values, path)

    def __post_init__(self) -> None:
        if self.engine not in ("auto", *ENGINES):
            raise ValueError(f"longrl.engine = {self.engine!r}; expected auto or one of {', '.join(ENGINES)}")
        for name in ("checkpoints_to_keep", "max_filtered_batches"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"longrl.{name} = {value}; expected at least 1, or null for no limit")
        number("longrl.carry_steps", self.carry_steps, 0, whole=True)
        number("longrl.watchdog_minutes", self.watchdog_minutes, 0)
        if self.reward.answer.by == "judge" and not self.judge.endpoints:
            raise ValueError(
                "longrl.reward.answer.by = judge needs longrl.judge.endpoints, the judge's base URLs, for example "
                "longrl.judge.endpoints=[http://judge-host:8000/v1]; without a judge use longrl.reward.answer.by=rule"
            )
        if self.rope is not None:
            _check_rope(self.rope)


def _check_rope(rope: Mapping[str, Any]) -> None:
    required = {"rope_type", "factor", "original_max_position_embeddings"}
    if missing := required - set(rope):
        raise ValueError(
            f"longrl.rope lacks {sorted(missing)}; a complete block is "
            "{rope_type: yarn, factor: 4.0, original_max_position_embeddings: 32768}"
        )
    if rope["factor"] < 1:
        raise ValueError(f"longrl.rope.factor = {rope['factor']} would shorten the context; expected at least 1")
