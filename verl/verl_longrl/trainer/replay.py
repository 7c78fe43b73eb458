"""Group filtering that can be watched, and that comes to an end.

With `algorithm.filter_groups` upstream throws away every group whose rewards are all equal and asks for two more, for
as long as it takes. A dead judge or a scorer that always fails gives equal rewards, so the run would generate for
ever, and nobody would see why. Here the scores of filtered groups are handed to the trainer, who counts them, shows
them and stops.
"""

from collections.abc import Callable
from typing import Any

import transfer_queue as tq
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

OnFiltered = Callable[[list[list[dict[str, Any]]]], None]
"""Called with the reward parts of every rollout of every group that was just filtered out."""


class WatchedReplayBuffer(ReplayBuffer):
    """Upstream's synchronous replay buffer; `on_filtered` sees what it filters out. It may raise to end the run."""

    on_filtered: OnFiltered

    @classmethod
    def watch(cls, buffer: ReplayBuffer, on_filtered: OnFiltered) -> "WatchedReplayBuffer":
        """Have `buffer` watched. Upstream gives its filter settings to its own class alone, so it is made by it."""
        if type(buffer) is not ReplayBuffer:
            raise TypeError(
                f"trainer.v1.sampler.custom_sampler made a {type(buffer).__name__}; LongRL's trainer needs upstream's "
                "own synchronous replay buffer (leave custom_sampler unset)"
            )
        buffer.__class__ = cls
        assert isinstance(buffer, cls)
        buffer.poll_interval = 0.5  # upstream sleeps 2 s between looks, half of a small step
        buffer.on_filtered = on_filtered
        return buffer

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
        return super()._evict_terminal_groups(global_steps, partition_id, eviction_reasons)
