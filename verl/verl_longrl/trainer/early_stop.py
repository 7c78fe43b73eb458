"""How a run ends early without losing what it has.

verl's trainer ends with whatever is raised, and all since the last checkpoint is lost. Here, what ends a step
before its update began (rollouts, rewards, log-probs) leaves the state before the step in the trainer ranks, which is
saved before the run ends. What comes to nothing after the update (weights that do not reach a replica, a validation)
lets the step be written down first; the next one's begin saves and ends the run. An error that came of a death
(`ray_errors.py`) is an interruption, after which the same command goes on; Ray's control store knows of deaths that the
error does not tell. What cannot be saved, because a rank is gone or in the middle of the update, or must not be,
because the numbers say that it is broken (`health.py`), is left out, and the checkpoint to go on from is named.
"""

from pathlib import Path

from transfer_queue import KVBatchMeta
from verl.experimental.agent_loop import AgentLoopManager
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from verl_longrl.trainer import checkpoints, ray_errors
from verl_longrl.trainer.actor_health import answer
from verl_longrl.trainer.health import Health
from verl_longrl.trainer.interruption import Broken, Interrupted, Interruptions, Stopped

DEATH_SEEN_WITHIN_S = 5.0
"""After an error that a death may be behind, such as that of a rank whose peer is gone."""
RANKS_ANSWER_WITHIN_S = 120.0
"""A rank that waits for what is dead never does."""


class EndingTrainer(PPOTrainerSync):
    """verl's synchronous trainer, with `_stop` and `_end_soon` for whoever finds a reason to end."""

    health: Health
    interruptions: Interruptions
    _updated = False
    """Whether the update of this step has begun."""
    _ending: tuple[type[RuntimeError], str] | None = None
    """What the next step's begin is to end the run with."""

    def _save_before_step(self) -> None:
        """Write and seal the checkpoint of `global_steps`, with all as it was when the step after it began."""
        raise NotImplementedError

    def fit(self, agent_loop_manager: AgentLoopManager) -> None:
        try:
            super().fit(agent_loop_manager)
            return
        except (Interrupted, Stopped):
            raise
        except Exception as error:
            if (death := self._death(error)) is None:
                raise
        self._stop_for(death)

    def on_step_begin(self) -> None:
        super().on_step_begin()
        self._updated = False

    def _update_critic(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        self._updated = True
        return super()._update_critic(batch, metrics)

    def _update_actor(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        self._updated = True
        return super()._update_actor(batch, metrics)

    def on_step_end(self) -> None:
        """Sends the weights to the replicas. Where one of them is gone, the step is done all the same."""
        try:
            super().on_step_end()
        except Exception as error:
            if (death := self._death(error)) is None:
                raise
            self._end_soon(Interrupted, f"after step {self.global_steps}: {death}")

    def _end_soon(self, error: type[RuntimeError], problem: str) -> None:
        """What comes after a step came to nothing: the next step's begin saves and ends the run, or this does if there
        is none."""
        if self.global_steps >= self.total_training_steps:
            raise error(f"{problem}. Repeat the command to do the last step and this again")
        self._ending = (error, problem)

    def _stop(self, error: type[RuntimeError], problem: str) -> None:
        """Save the state before this step (weights and place in the data) if it is there, then raise `error`."""
        raise error(f"step {self.global_steps}: {problem}. {self._saved_before(self.global_steps)}.")

    def _stop_for(self, death: str) -> None:
        """`_stop`, where saving may fail for the same reason."""
        try:
            self._stop(Interrupted, death)
        except (Interrupted, Stopped):
            raise
        except Exception as error:
            failed = ray_errors.death(error) or f"{type(error).__name__}: {error}"
            saved = f"nothing could be saved ({failed}); {self._go_on_from()}"
            raise Interrupted(f"step {self.global_steps}: {death}. {saved}.") from error

    def _saved_before(self, step: int) -> str:
        """Save the state before a step, if it is there and not saved yet; in words."""
        if step <= 1:
            return "no step was completed before it"
        folder = self._checkpoint_root / f"global_step_{step - 1}"
        for pending in self._dump_futures:
            pending.result()  # which may be about to seal it
        if checkpoints.damage(folder) is not None:
            if lost := self._lost():
                return f"{lost}, so nothing could be saved; {self._go_on_from()}"
            self.global_steps = step - 1
            try:
                self._save_before_step()
            finally:
                self.global_steps = step
        return f"{folder} is saved; repeat the command to continue from it"

    def _lost(self) -> str | None:
        """Why the state before this step is not to be had any more, or not worth saving; None: it can be saved."""
        if self._updated:
            return "the update had begun"
        if self.health.in_doubt:
            return self.health.in_doubt
        if not answer(self.actor_rollout_wg.workers, RANKS_ANSWER_WITHIN_S):
            return "a trainer rank is gone or does not answer"
        return None

    def _death(self, error: Exception) -> str | None:
        """What has died that this error came of, or None."""
        return ray_errors.death(error) or self.interruptions.dead(DEATH_SEEN_WITHIN_S)

    def _go_on_from(self) -> str:
        folder, _ = checkpoints.newest_whole(self._checkpoint_root)
        return f"repeat the command to go on from {folder}" if folder else "repeat the command to begin again"

    def _broken(self, problem: str) -> Broken:
        """The error of a run whose weights are not to be trusted any more, with the checkpoint that still is."""
        until, root = self.health.sound_until, self._checkpoint_root
        whole = [folder for folder in checkpoints.checkpoint_folders(root) if checkpoints.damage(folder) is None]
        good = [folder for folder in whole if until is None or checkpoints.step_of(folder) <= until]
        if not good:
            last = "There is no good checkpoint"
        elif good == whole:
            last = f"The last good checkpoint, from which the same command goes on, is {good[-1]}"
        else:
            last = f"The last good checkpoint is {good[-1]}; move the later ones away to go on from it"
        return Broken(f"step {self.global_steps}: {problem}. Stopped without saving. {last}.")

    @property
    def _checkpoint_root(self) -> Path:
        return Path(self.config.trainer.default_local_dir)
