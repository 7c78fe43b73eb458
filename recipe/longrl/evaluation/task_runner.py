"""The remote driver process of a run with suites: LongRL's task runner with the trainer that answers them."""

from typing import Any

import ray
from omegaconf import DictConfig
from verl_longrl.trainer.task_runner import LongRLTaskRunner

_actor_class: Any = LongRLTaskRunner
_TaskRunner: type = _actor_class.__ray_metadata__.modified_class


@ray.remote
class EvaluatingTaskRunner(_TaskRunner):  # type: ignore[misc, valid-type]
    """Passed to `verl.trainer.main_ppo.run_ppo(config, task_runner_class=...)`."""

    def run(self, config: DictConfig) -> None:
        # Here, because the driver needs neither torch nor TransferQueue.
        from recipe.longrl.evaluation.in_training import EvaluatingTrainer

        self.trainer_class = EvaluatingTrainer
        super().run(config)
