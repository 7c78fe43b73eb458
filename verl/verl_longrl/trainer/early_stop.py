"""End a run early without losing its state.

verl's trainer ends with whatever error is raised, and everything since the last checkpoint is lost. Here there are four
cases:

- The step fails before its update begins (rollouts, rewards, log-probs). The trainer ranks still hold the state before
  the step, which is saved before the run ends.
- Something fails after the update (weights do not reach a replica, a validation fails). The step's metrics and rollouts
  are written first; the begin of the next step saves and ends the run.
- The error was caused by a death (`ray_errors.py`), or Ray's control store knows of a death that the error does not
  mention. Then it is an interruption, and the same command resumes the run.
- The state cannot be saved (a rank is gone or in the middle of the update), or must not be, because the metrics say
  that it is broken (`health.py`). Then the message names the checkpoint to resume from.
"""

from abc import abstractmethod
from pathlib import Path

from transfer_queue import KVBatchMeta
from verl.experimental.agent_loop import AgentLoopManager
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from verl_longrl.trainer import checkpoints, ray_errors
from verl_longrl.trainer.actor_health import all_answer
from verl_longrl.trainer.health import Health
from verl_longrl.trainer.interruption import Broken, Interrupted, Interruptions, Stopped
from verl_longrl.trainer.step_state import StepState

DEATH_SEEN_WITHIN_S = 5.0
"""Wait for Ray to notice a death after an error that one may have caused, such as that of a rank whose peer is gone."""
RANKS_ANSWER_WITHIN_S = 120.0
"""A rank that waits for a dead peer never answers."""


class EarlyStopTrainer(PPOTrainerSync):
    """verl's synchronous trainer with two ways to end: `_stop` now, and `_stop_before_next_step`."""

    health: Health
    interruptions: Interruptions
    step_state: StepState
    _pending_stop: tuple[type[RuntimeError], str] | None = None
    """The error, and its problem, with which the begin of the next step ends the run."""

    @abstractmethod
    def _save_before_step(self) -> None:
        """Write and seal the checkpoint of `global_steps` with the state at the begin of the step after it."""

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

    def _update_critic(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        self.step_state.update_begun = True
        return super()._update_critic(batch, metrics)

    def _update_actor(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        self.step_state.update_begun = True
        return super()._update_actor(batch, metrics)

    def on_step_end(self) -> None:
        """Send the weights to the replicas. The step counts as done even if a replica is gone."""
        try:
            super().on_step_end()
        except Exception as error:
            if (death := self._death(error)) is None:
                raise
            self._stop_before_next_step(Interrupted, f"after step {self.global_steps}: {death}")

    def _stop_before_next_step(self, error: type[RuntimeError], problem: str) -> None:
        """End the run at the begin of the next step, which saves. Without a next step, raise `error` now."""
        # There is no next step that could save and end the run.
        if self.global_steps >= self.total_training_steps:
            raise error(f"{problem}. Rerun the command to repeat the last step and its validation")
        self._pending_stop = (error, problem)

    def _stop(self, error: type[RuntimeError], problem: str) -> None:
        """Save the state before this step (weights and place in the data) if possible, then raise `error`."""
        raise error(f"step {self.global_steps}: {problem}. {self._save_state_before(self.global_steps)}.")

    def _stop_for(self, death: str) -> None:
        """`_stop` after a death, which may make saving fail as well."""
        try:
            self._stop(Interrupted, death)
        except (Interrupted, Stopped):
            raise
        except Exception as error:
            why = ray_errors.find_death(error) or f"{type(error).__name__}: {error}"
            outcome = f"nothing could be saved ({why}); {self._how_to_resume()}"
            raise Interrupted(f"step {self.global_steps}: {death}. {outcome}.") from error

    def _save_state_before(self, step: int) -> str:
        """Save the state before a step, unless it is saved already or lost; returns the outcome in words."""
        if step <= 1:
            return "no step was completed before it"
        folder = self._checkpoint_root / f"global_step_{step - 1}"
        # The last step's rollouts are written in a thread, which then seals its checkpoint.
        for pending in self._dump_futures:
            pending.result()
        if checkpoints.find_damage(folder) is not None:
            if reason := self._why_state_is_lost():
                return f"{reason}, so nothing could be saved; {self._how_to_resume()}"
            # verl names the folder after `global_steps`.
            self.global_steps = step - 1
            try:
                self._save_before_step()
            finally:
                self.global_steps = step
        return f"{folder} is saved; rerun the command to resume from it"

    def _why_state_is_lost(self) -> str | None:
        """Why the state before this step is gone or not worth saving; None if it can be saved."""
        if self.step_state.update_begun:
            return "the update had begun"
        if self.health.in_doubt:
            return self.health.in_doubt
        if not all_answer(self.actor_rollout_wg.workers, RANKS_ANSWER_WITHIN_S):
            return "a trainer rank is gone or does not answer"
        return None

    def _death(self, error: Exception) -> str | None:
        """The death that caused this error, in words, or None."""
        return ray_errors.find_death(error) or self.interruptions.dead(DEATH_SEEN_WITHIN_S)

    def _how_to_resume(self) -> str:
        folder, _ = checkpoints.newest_whole(self._checkpoint_root)
        return f"rerun the command to resume from {folder}" if folder else "rerun the command to start over"

    def _broken(self, problem: str) -> Broken:
        """The error for weights that can no longer be trusted; names the last checkpoint that can."""
        until, root = self.health.sound_until, self._checkpoint_root
        # Whole checkpoints may be later than the last step whose weights were sound.
        whole = [folder for folder in checkpoints.checkpoint_folders(root) if checkpoints.find_damage(folder) is None]
        good = [folder for folder in whole if until is None or checkpoints.step_of(folder) <= until]
        if not good:
            last = "No good checkpoint exists"
        elif good == whole:
            last = f"Rerun the command to resume from the last good checkpoint, {good[-1]}"
        else:
            last = f"The last good checkpoint is {good[-1]}; move the later ones away to resume from it"
        return Broken(f"step {self.global_steps}: {problem}. Stopped without saving. {last}.")

    @property
    def _checkpoint_root(self) -> Path:
        return Path(self.config.trainer.default_local_dir)
