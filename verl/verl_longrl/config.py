"""The `longrl:` block of the run configuration, checked as a whole before anything starts.

verl's configuration has 886 keys and answers a mistyped one with "Key not in struct". An unknown key of ours is refused
with the nearest valid one, and a wrong value with what was expected. Needs neither torch nor Ray nor verl.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from verl_longrl.data.sampler import MixOptions
from verl_longrl.engine.supported import Engine
from verl_longrl.options import OptionError, Options
from verl_longrl.rewards.options import JudgeOptions, RewardOptions
from verl_longrl.trainer.advantage import AdvantageOptions
from verl_longrl.trainer.evaluate_options import EvaluateOptions
from verl_longrl.trainer.health import WatchOptions

ROPE_EXAMPLE = "{rope_type: yarn, factor: 4.0, original_max_position_embeddings: 32768}"


@dataclass(frozen=True)
class LongRLConfig(Options):
    """Everything under `longrl:`."""

    output_dir: str
    """Folder for all that the run writes: checkpoints/, rollouts/, tensorboard/, export/, summary.json, plots."""
    engine: Literal["auto", Engine] = "auto"
    """How the trainer computes the rollouts of one prompt. shared_prompt: the prompt once for all of them, logits at
    responses only. response_logits: the prompt for each of them, logits at responses only. `upstream`: verl's own.
    auto: the first of these that computes the same function as verl (docs/engine.md)."""
    prompt_affinity: bool = True
    """All rollouts of a prompt go to one vLLM replica, which prefills the prompt once; false: as verl, to the replica
    with the fewest requests."""
    advantage: AdvantageOptions = field(default_factory=AdvantageOptions)
    mix: MixOptions = field(default_factory=MixOptions)
    reward: RewardOptions = field(default_factory=RewardOptions)
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    rope: dict[str, Any] | None = None
    """Context extension, the same in the trainer and in vLLM; null: as the model's config says. Example:
    {rope_type: yarn, factor: 4.0, original_max_position_embeddings: 32768}."""
    max_filtered_batches: PositiveInt | None = 10
    """With `algorithm.filter_groups`, groups with equal rewards are replaced. A step that has replaced the groups of
    this many batches stops the run (LongRLVR's max_num_gen_batches, which verl ignores); null: never."""
    carry_steps: NonNegativeInt = 0
    """Groups that passed the filter but did not fit into the batch are kept for this many steps."""
    checkpoints_to_keep: PositiveInt | None = 3
    """Newest complete checkpoints to keep, in addition to the one being written; null: all."""
    log_rollouts: bool = True
    """Write every rollout with its reward parts under `<output_dir>/rollouts`."""
    samples_per_step: NonNegativeInt = 0
    """Rollouts of each step that W&B, trackio and MLflow show as a table: question, gold answer, response and reward
    parts, without the document; 0: none. A tracker may send them to another machine."""
    watchdog_minutes: NonNegativeFloat = 10.0
    """After this many minutes without progress, the run prints where it is and which prompts on which replica it waits
    for; 0: never."""
    watch: WatchOptions = field(default_factory=WatchOptions)
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)
    export: bool = True
    """Write the final weights as a Hugging Face folder under `<output_dir>/export`."""
    trust_folder: bool = False
    """Anyone who can write in the run's folders decides what is trained on. So folders and checkpoints that other users
    own or can change are refused, and only the owner can change what a run writes; true: neither."""
    gpu_memory_gib: PositiveFloat = 80.0
    """Memory of one GPU in GiB, for estimates where there is no GPU to ask (a dry run)."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None, path: str = "longrl.") -> Self:
        """`Options.from_dict`, with errors that name a key as a user writes it: longrl.reward.answer.by."""
        return super().from_dict(values, path)

    def __post_init__(self) -> None:
        if self.reward.answer.by == "judge" and not self.judge.endpoints:
            raise OptionError(
                "reward.answer.by",
                "judge",
                "it needs the judge's servers",
                "set longrl.judge.endpoints=[http://judge-host:8000/v1], or use longrl.reward.answer.by=rule",
            )
        if self.samples_per_step and not self.log_rollouts:
            raise OptionError(
                "samples_per_step",
                self.samples_per_step,
                "rollouts are only fetched where they are logged",
                "set longrl.log_rollouts=true, or longrl.samples_per_step=0",
            )
        if self.rope is not None:
            _check_rope(self.rope)


def _check_rope(rope: Mapping[str, Any]) -> None:
    required = {"rope_type", "factor", "original_max_position_embeddings"}
    if missing := required - set(rope):
        raise OptionError("rope", dict(rope), f"{', '.join(sorted(missing))} missing", f"write all of {ROPE_EXAMPLE}")
    if not isinstance(rope["factor"], int | float) or not rope["factor"] >= 1:
        raise OptionError(
            "rope.factor", rope["factor"], "expected a number of at least 1", "use the factor that extends the context"
        )
