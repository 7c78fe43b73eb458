"""The training loop: task runner, trainer subclass, metrics, rollout log and checkpoints."""
