"""Group filtering that can be watched, that comes to an end, and that wastes nothing.

With `algorithm.filter_groups` verl throws away every group whose rewards are all equal and asks for two more, for
as long as it takes. A dead judge or a scorer that always fails gives equal rewards, so the run would generate for
ever, and nobody would see why. Here the scores of filtered groups are handed to the trainer, who counts them, shows
them and stops.

Asking for two gives too many in the end: groups with signal that the batch has no place for. verl throws them away
as well. With `carry_steps` they wait for the next step, which then asks for so many fewer. They were sampled from
weights one step old; algorithm.rollout_correction weighs that where it matters.
"""

import time
from collections.abc import Callable
from typing import Any

import transfer_queue as tq
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

OnFiltered = Callable[[list[list[dict[str, Any]]]], None]
"""Called with the reward parts of every rollout of every group that was just filtered out."""
OnLook = Callable[[str, int], None]
"""Called at every look for finished groups with the partition, and the groups with failed rollouts in it."""
POLL_S, POLL_SHARE = (0.1, 0.5), 0.1
"""Seconds between two looks, from which to which, and as a share of the time waited so far."""
DISCARDED = "training/filter_groups/discarded_surplus_samples"


class WatchedReplayBuffer(ReplayBuffer):
    """verl's synchronous replay buffer; `on_filtered` sees what it filters out, `on_look` how it stands, in time to
    refuse groups with failed rollouts, which verl trains on as if they were smaller. Both may raise to end the run.

    carry_steps: for how many steps a group that a batch has no place for is kept. carried: prompt ids of the groups
    that wait now.
    """

    on_filtered: OnFiltered
    on_look: OnLook
    carry_steps: int
    carried: set[str]

    @classmethod
    def watch(
        cls, buffer: ReplayBuffer, on_filtered: OnFiltered, on_look: OnLook, carry_steps: int = 0
    ) -> "WatchedReplayBuffer":
        """Have `buffer` watched. verl gives its filter settings to its own class alone, so it is made by it."""
        if type(buffer) is not ReplayBuffer:
            raise TypeError(
                f"trainer.v1.sampler.custom_sampler made a {type(buffer).__name__}; LongRL's trainer needs verl's "
                "own synchronous replay buffer (leave custom_sampler unset)"
            )
        buffer.__class__ = cls
        assert isinstance(buffer, cls)
        buffer.on_filtered, buffer.on_look = on_filtered, on_look
        buffer.carry_steps, buffer.carried = carry_steps, set()
        buffer._step, buffer._partition, buffer._evicting, buffer._began = 0, "train", False, 0.0
        return buffer

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[Any, dict]:
        """verl's; of the groups that are left over, those young enough stay for the next step."""
        self._partition, self._began = partition_id, time.monotonic()
        if partition_id != "train":
            return super().sample(global_steps, partition_id, batch_size)
        used, self.carried, self._step = len(self.carried), set(), global_steps
        batch, metrics = super().sample(global_steps, partition_id, batch_size)
        if DISCARDED in metrics:
            metrics[DISCARDED] -= len(self.carried)
        return batch, {**metrics, "group/carried_over": used}

    def _wait_for_next_poll(self, partition_id: str, last_debug_time: float) -> float:
        """verl sleeps for 2 s, most of a small step; here a look comes late by no more than a share of the wait."""
        shortest, longest = POLL_S
        self.poll_interval = min(max(POLL_SHARE * (time.monotonic() - self._began), shortest), longest)
        return super()._wait_for_next_poll(partition_id, last_debug_time)

    def _sync_metadata_from_transfer_queue(self) -> None:
        super()._sync_metadata_from_transfer_queue()
        failed = 0 if self.sync_refill_failed_groups else len(self.failure_keys[self._partition])
        self.on_look(self._partition, failed)

    def _clear_groups(self, partition_id: str, uids: set[str]) -> None:
        """Called for what is evicted, and at the end of a sampling for the surplus."""
        if partition_id == "train" and not self._evicting:
            born = self.prompt_global_steps[partition_id]
            young = {uid for uid in uids if self._step - born.get(uid, self._step) < self.carry_steps}
            self.carried |= young
            uids = uids - young
        super()._clear_groups(partition_id, uids)

    def _evict_terminal_groups(self, global_steps: int, partition_id: str, eviction_reasons: tuple) -> tuple:
        _, filtered, _, _ = eviction_reasons
        if filtered:
            groups: dict[str, list[str]] = {uid: [] for uid in filtered}
            for key in self.partitions[partition_id]:
                uid = key.split("_")[0]
                if uid in groups:
                    groups[uid].append(key)
            keys = [key for members in groups.values() for key in members]
            fields = tq.kv_batch_get(keys=keys, partition_id=partition_id, select_fields=["extra_fields"])
            parts = iter([row["reward_extra_info"] for row in list(fields["extra_fields"])])
            self.on_filtered([[next(parts) for _ in members] for members in groups.values()])
        self._evicting = True
        try:
            return super()._evict_terminal_groups(global_steps, partition_id, eviction_reasons)
        finally:
            self._evicting = False
