"""Group filtering that reports what it replaces, can be stopped, and keeps surplus groups for the next step.

With `algorithm.filter_groups` verl throws away every group whose rewards are all equal and asks for two more, without
a limit. A dead judge or a scorer that always fails gives equal rewards, so the run would generate forever, and nobody
would see why. Here the scores of filtered groups are handed to the trainer, which counts them, logs them and stops.

Asking for two leaves surplus groups in the end: they have signal, and the batch has no room for them. verl throws them
away as well. With `carry_steps` they wait for the next step, which then asks for that many fewer. They were sampled
from weights that are one step old; algorithm.rollout_correction corrects for that where it matters.
"""

import time
from collections.abc import Callable
from typing import Any

from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from verl_longrl.trainer.rollout_key import RolloutKey
from verl_longrl.trainer.rollout_log import Split
from verl_longrl.trainer.step_state import Scores
from verl_longrl.trainer.transfer_queue_rows import fetch_scores

OnFiltered = Callable[[list[Scores]], None]
"""Called with the scores of each group that was just filtered out, one per rollout."""
OnUntrained = Callable[[Split, dict[str, dict[str, Any]]], None]
"""Called with "val" or "filtered", and key -> tag of rollouts that were scored and will not be trained on, while their
rows are still in TransferQueue."""
OnPoll = Callable[[str, int], None]
"""Called at every poll for finished groups with the partition, and its number of groups with failed rollouts."""
POLL_S, POLL_SHARE = (0.1, 0.5), 0.1
"""Seconds between two polls (least, most), and in between as a share of the time waited so far."""
DISCARDED = "training/filter_groups/discarded_surplus_samples"


class FilteringReplayBuffer(ReplayBuffer):
    """verl's synchronous replay buffer with three callbacks, of which the first two may raise to end the run.

    on_filtered sees the groups that are filtered out. on_poll sees the progress, in time to refuse groups with failed
    rollouts, on which verl would train as if they were smaller groups. on_untrained sees the rollouts of groups that
    are filtered out, and those of a validation.

    carry_steps: for how many steps a group that has no room in a batch is kept. waiting: prompt ids of the groups that
    are kept now.
    """

    on_filtered: OnFiltered
    on_poll: OnPoll
    on_untrained: OnUntrained
    carry_steps: int
    waiting: set[str]

    @classmethod
    def take_over(
        cls,
        buffer: ReplayBuffer,
        on_filtered: OnFiltered,
        on_poll: OnPoll,
        carry_steps: int = 0,
        on_untrained: OnUntrained = lambda split, tags: None,
    ) -> "FilteringReplayBuffer":
        """Make `buffer` an instance of this class: verl passes its filter settings only to a buffer of its own
        class."""
        if type(buffer) is not ReplayBuffer:
            raise TypeError(
                f"trainer.v1.sampler.custom_sampler made a {type(buffer).__name__}; LongRL's trainer needs verl's "
                "own synchronous replay buffer (leave custom_sampler unset)"
            )
        # verl's trainer holds this very object, so it must change its class, not be replaced.
        buffer.__class__ = cls
        assert isinstance(buffer, cls)
        buffer.on_filtered, buffer.on_poll, buffer.on_untrained = on_filtered, on_poll, on_untrained
        buffer.carry_steps, buffer.waiting = carry_steps, set()
        buffer._step, buffer._partition, buffer._evicting, buffer._began = 0, "train", False, 0.0
        return buffer

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[Any, dict]:
        """Return verl's batch and metrics; surplus groups that are young enough stay for the next step."""
        self._partition, self._began = partition_id, time.monotonic()
        if partition_id != "train":
            batch, metrics = super().sample(global_steps, partition_id, batch_size)
            self.on_untrained("val", dict(zip(batch.keys, batch.tags, strict=True)))
            return batch, metrics
        # Groups that wait are still in TransferQueue, so verl finds them like new ones. A batch takes the oldest groups
        # first, so they are used before those of this step.
        used, self.waiting, self._step = len(self.waiting), set(), global_steps
        batch, metrics = super().sample(global_steps, partition_id, batch_size)
        if DISCARDED in metrics:
            # verl counts the groups that are kept as well.
            metrics[DISCARDED] -= len(self.waiting)
        return batch, {**metrics, "group/carried_over": used}

    def _wait_for_next_poll(self, partition_id: str, last_debug_time: float) -> float:
        """Sleep. verl's 2 s are most of a small step; here a poll is late by at most a share of the time waited."""
        shortest, longest = POLL_S
        self.poll_interval = min(max(POLL_SHARE * (time.monotonic() - self._began), shortest), longest)
        return super()._wait_for_next_poll(partition_id, last_debug_time)

    def _sync_metadata_from_transfer_queue(self) -> None:
        super()._sync_metadata_from_transfer_queue()
        # With sync_refill_failed_groups verl replaces failed groups itself.
        failed = 0 if self.sync_refill_failed_groups else len(self.failure_keys[self._partition])
        self.on_poll(self._partition, failed)

    def _clear_groups(self, partition_id: str, uids: set[str]) -> None:
        """Delete groups from TransferQueue, except surplus ones that are to be kept."""
        # verl calls this for groups that it evicts, and again at the end of `sample` for the surplus.
        if partition_id == "train" and not self._evicting:
            sampled_at = self.prompt_global_steps[partition_id]
            # With carry_steps = 1 a group that was sampled in this step stays, and one of the step before does not.
            young = {uid for uid in uids if self._step - sampled_at.get(uid, self._step) < self.carry_steps}
            self.waiting |= young
            uids = uids - young
        super()._clear_groups(partition_id, uids)

    def _evict_terminal_groups(self, global_steps: int, partition_id: str, eviction_reasons: tuple) -> tuple:
        _, filtered, _, _ = eviction_reasons
        if filtered:
            rows = self.partitions[partition_id]
            self.on_untrained("filtered", {key: rows[key] for key in rows if RolloutKey.parse(key).uid in filtered})
            self.on_filtered(self._scores_by_group(partition_id, filtered))
        self._evicting = True
        try:
            return super()._evict_terminal_groups(global_steps, partition_id, eviction_reasons)
        finally:
            self._evicting = False

    def _scores_by_group(self, partition_id: str, uids: set[str]) -> list[Scores]:
        keys = [key for key in self.partitions[partition_id] if RolloutKey.parse(key).uid in uids]
        groups: dict[str, Scores] = {uid: [] for uid in uids}
        for key, score in zip(keys, fetch_scores(partition_id, keys), strict=True):
            groups[RolloutKey.parse(key).uid].append(score)
        return list(groups.values())
