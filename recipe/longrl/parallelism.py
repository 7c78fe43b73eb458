"""Read the trainer's parallelism from the configuration, for FSDP and Megatron alike."""

from typing import NamedTuple

from omegaconf import DictConfig

MEGATRON = "megatron"


class Parallel(NamedTuple):
    """The degrees of parallelism."""

    sequence: int
    """GPUs that share the tokens of a sequence: Ulysses or context parallelism."""
    model: int
    """GPUs that share one copy of the model: tensor times pipeline parallelism, or 1 with FSDP."""
    sequence_key: str
    """The key below actor_rollout_ref that sets `sequence`."""

    @property
    def rank(self) -> int:
        """GPUs in one data-parallel rank."""
        return self.sequence * self.model


def n_gpus(config: DictConfig) -> int:
    """GPUs (logical devices on the CPU) of the trainer."""
    return int(config.trainer.nnodes * config.trainer.n_gpus_per_node)


def uses_megatron(config: DictConfig) -> bool:
    """Whether the trainer's engine is Megatron-Core (a hardware=...-megatron group), not FSDP."""
    return bool(config.actor_rollout_ref.actor.strategy == MEGATRON)


def parallel(config: DictConfig) -> Parallel:
    """The trainer's parallelism."""
    actor = config.actor_rollout_ref.actor
    if uses_megatron(config):
        sizes = actor.megatron
        model = sizes.tensor_model_parallel_size * sizes.pipeline_model_parallel_size
        return Parallel(sizes.context_parallel_size, model, "actor.megatron.context_parallel_size")
    return Parallel(actor.ulysses_sequence_parallel_size, 1, "actor.ulysses_sequence_parallel_size")
