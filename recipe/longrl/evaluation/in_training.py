"""The trainer that answers suites at its checkpoints (`suites.py`)."""

from __future__ import annotations

from typing import Any

from transfer_queue import KVBatchMeta
from verl.utils.debug import marked_timer
from verl_longrl.trainer.trainer import LongRLTrainer

from recipe.longrl.evaluation.suites import SuitePlanner, Suites


class EvaluatingTrainer(LongRLTrainer):
    """LongRL's trainer, with the suites of `longrl.evaluate` after a step's weights have reached the replicas.

    A step's checkpoint is sealed after them, so a resumed run has their figures, or repeats the step.
    """

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        planner = SuitePlanner(self.config, self.longrl.evaluate, self.tokenizer)
        self.suites = Suites(planner, self.total_training_steps)
        self.suites.drop_after(self.global_steps)

    def on_train_begin(self) -> None:
        super().on_train_begin()
        # verl has counted on to the first step of this start.
        step = self.global_steps - 1
        if step > 0 or self.config.trainer.val_before_train:
            metrics = self._evaluate(step)
            if metrics:
                self.logger.log(data=metrics, step=step)

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict, timing_raw: dict, global_steps: int, epoch: int
    ) -> None:
        if self.suites.due(global_steps):
            with marked_timer("evaluate", timing_raw, color="green"):
                metrics.update(self._evaluate(global_steps))
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)

    def _progress_key(self) -> object:
        return super()._progress_key(), self.suites.answered

    def _evaluate(self, step: int) -> dict[str, float]:
        # The replicas have old weights, or none.
        if self._pending_stop is not None:
            return {}
        client = self.get_llm_client()

        async def generate(name: str, prompt: list[int], sampling: dict[str, Any]) -> list[int]:
            output = await client.generate(name, prompt_ids=prompt, sampling_params=sampling)
            if output.stop_reason == "aborted":
                raise RuntimeError("the engine ended the request")
            return list(output.token_ids)

        metrics = self.suites.evaluate(step, generate, self.interruptions.reason)
        if metrics:
            self._write_metrics("evaluate", step, metrics)
        return metrics
