"""The remote driver process: verl's task runner with LongRL's trainer instead of verl's synchronous one.

The trainer mode keeps its name `sync`: verl compares it with that string in six places, and any other name
turns on asynchronous behaviour.
"""

import ray
from omegaconf import DictConfig
from verl.trainer.main_ppo import TaskRunnerV1

_TaskRunner: type = TaskRunnerV1.__ray_metadata__.modified_class  # type: ignore[attr-defined]


@ray.remote
class LongRLTaskRunner(_TaskRunner):  # type: ignore[misc, valid-type]
    """Passed to `verl.trainer.main_ppo.run_ppo(config, task_runner_class=...)`."""

    trainer_class: type | None = None
    """A subclass of LongRLTrainer; None: that class itself."""

    def run(self, config: DictConfig) -> None:
        from verl.trainer.ppo.v1 import trainer_base

        from verl_longrl import network, plugin
        from verl_longrl.trainer.trainer import LongRLTrainer

        plugin.check()
        network.require_secrets()
        trainer_base.TRAINER_REGISTRY["sync"] = self.trainer_class or LongRLTrainer
        super().run(config)
