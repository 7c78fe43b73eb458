"""The training loop: task runner, trainer, metrics, rollout log and checkpoints. Begin at `trainer.py`."""
