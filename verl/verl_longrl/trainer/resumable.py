"""Write checkpoints that are either complete or do not count, and resume from the newest one that is sound."""

import json
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch

from verl_longrl.config import LongRLConfig
from verl_longrl.folder_lock import Claim
from verl_longrl.trainer import checkpoints, checksums, finite_weights, shards, write_access
from verl_longrl.trainer.advantage import Advantages
from verl_longrl.trainer.checkpoints import ADVANTAGE_STATE_FILE, WAITING
from verl_longrl.trainer.console_lines import print_line
from verl_longrl.trainer.early_stop import EarlyStopTrainer
from verl_longrl.trainer.group_filtering import FilteringReplayBuffer
from verl_longrl.trainer.health import RECENT
from verl_longrl.trainer.items_in_flight import ItemsInFlight
from verl_longrl.trainer.metrics_log import MetricsLog
from verl_longrl.trainer.rollout_log import RolloutLog
from verl_longrl.trainer.step_state import ResumePoint


class ResumableTrainer(EarlyStopTrainer):
    """A checkpoint is written when verl saves, and sealed once the step's metrics and rollouts are on disk as well.

    Without its seal it does not count, so a resume never repeats a step that is logged, nor skips one that is not.
    """

    longrl: LongRLConfig
    advantages: Advantages
    groups: FilteringReplayBuffer
    items: ItemsInFlight
    metrics_log: MetricsLog
    rollout_log: RolloutLog | None = None
    claims: tuple[Claim, ...] = ()

    def _require_folders(self) -> None:
        """Raises FolderTakenOver where another run works in this one's folders by now."""
        for claim in self.claims:
            claim.require()

    # ---- saving -----------------------------------------------------------------------------------------------

    def _resume_point(self) -> ResumePoint:
        """The present state of everything but the weights."""
        data = self.train_dataloader.state_dict()
        return ResumePoint(data, self.items.waiting(self.groups.waiting), self.advantages.state_dict())

    def _save_checkpoint(self) -> None:
        """Write the checkpoint of this step. It counts only once it is sealed."""
        self._require_folders()
        if (problem := finite_weights.not_finite(self.actor_rollout_wg.workers)) is not None:
            raise self._broken(problem)
        folder = self._checkpoint_root / f"global_step_{self.global_steps}"
        checkpoints.begin_checkpoint(folder)
        try:
            super()._save_checkpoint()
        except RuntimeError:
            # torch does not say why it cannot write. This raises the system's error where the disk is full.
            checkpoints.require_room(folder)
            raise
        synced = shards.write_through(folder, self.actor_rollout_wg.workers)
        self._write_state(folder, self.items.waiting(self.groups.waiting), self.advantages.state_dict())
        self.step_state.unsealed = folder, synced

    def _save_before_step(self) -> None:
        point = self.step_state.resume_point
        assert point is not None
        self._save_checkpoint()
        folder = self._checkpoint_root / f"global_step_{self.global_steps}"
        # The step has taken prompts since, and may have updated the running scale of the advantages.
        torch.save(point.data, folder / "data.pt")
        self._write_state(folder, point.waiting, point.advantages)
        self._seal(self._pop_unsealed())

    def _write_state(self, folder: Path, waiting: list[int], advantages: dict[str, Any]) -> None:
        checkpoints.write_atomic(folder / ADVANTAGE_STATE_FILE, json.dumps(advantages))
        checkpoints.write_atomic(folder / WAITING, json.dumps(waiting))

    def _seal(self, unsealed: tuple[Path, dict[str, checksums.Written]] | None) -> None:
        if unsealed is not None:
            folder, synced = unsealed
            checkpoints.seal_checkpoint(folder, self.actor_rollout_wg.world_size, synced)
            for line in checkpoints.rotate(folder, self.longrl.checkpoints_to_keep):
                print_line(line)

    def _pop_unsealed(self) -> tuple[Path, dict[str, checksums.Written]] | None:
        unsealed, self.step_state.unsealed = self.step_state.unsealed, None
        return unsealed

    # ---- resuming ---------------------------------------------------------------------------------------------

    def _load_checkpoint(self) -> None:
        options, workers = self.config.trainer, self.actor_rollout_wg.workers
        # The ranks create files as well, each with the mask of its own process.
        if not self.longrl.trust_folder:
            shards.in_ranks(workers, write_access.allow_only_owner_to_write, [()] * len(workers))
        folder, skipped = checkpoints.to_resume_from(
            options.resume_mode, self._checkpoint_root, options.resume_from_path, len(workers), cache(self._unsound)
        )
        for line in skipped:
            print_line(f"resume: {line}")
        if options.resume_mode == "auto":
            checkpoints.point_tracker(self._checkpoint_root, folder)
        if folder is not None:
            # verl reads it with resume_mode=resume_path.
            options.resume_from_path = str(folder)
            print_line(f"resume: continuing from {folder}")
        # Megatron's own format holds more than weights, so its ranks must be able to load all of it.
        readers = [*workers, *(self.critic_wg.workers if self.use_critic else [])]
        with shards.loading_weights_only([] if self._megatron else readers):
            super()._load_checkpoint()
        if folder is not None:
            self._read_state(folder)
        self.metrics_log.drop_after(self.global_steps)
        if self.rollout_log is not None:
            self.rollout_log.drop_after(self.global_steps)
        if self.global_steps > 0:
            # The first steps from here are compared with the last ones before.
            self.health.remember(self.global_steps, self.metrics_log.last_training_steps(RECENT))
            # This step was validated before the interruption, or was not to be validated.
            self.config.trainer.val_before_train = False

    def _read_state(self, folder: Path) -> None:
        """Restore what `_write_state` wrote; checkpoints of earlier versions lack some of it."""
        if (state := folder / ADVANTAGE_STATE_FILE).is_file():
            self.advantages.load_state_dict(json.loads(state.read_text()))
        if (waiting := folder / WAITING).is_file():
            self._resubmit(json.loads(waiting.read_text()))

    def _resubmit(self, items: list[int]) -> None:
        """Submit these items of the data set before the data loader's next ones."""
        self.train_dataloader_it = self.items.batches_from(items, self.train_dataset, self.train_dataloader)

    @property
    def _megatron(self) -> bool:
        """Whether ranks read Megatron's own format, which holds more than weights."""
        return bool(self.config.actor_rollout_ref.actor.strategy == "megatron")

    def _unsound(self, folder: Path) -> str | None:
        """Why the checkpoint must not be used, after all ranks have checked its content; None if it is sound.

        A damaged checkpoint of this run no longer counts as complete. Raises CheckpointError when others can write it,
        or when loading it would run code.
        """
        if (reason := checkpoints.find_damage(folder)) is not None:
            return reason
        if not self.longrl.trust_folder and (problem := write_access.checkpoint_problem(folder)) is not None:
            raise checkpoints.CheckpointError(problem)
        started = time.time()
        problems = shards.damaged(folder, self.actor_rollout_wg.workers, self._holds_weights)
        if problems and folder.parent.resolve() == self._checkpoint_root.resolve():
            checkpoints.set_aside(folder)
        print_line(f"resume: checked the content of {folder.name} in {time.time() - started:.1f} s")
        return "; ".join(problems) or None

    def _holds_weights(self, name: str) -> bool:
        return name.endswith(".pt") and not (self._megatron and "/" in name)
