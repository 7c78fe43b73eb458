"""On a machine without GPUs a run's Ray workers are forked from one process that has done their imports.

A start there was mostly a dozen processes importing torch, transformers and vLLM on a few cores; see
`verl_longrl.platform.zygote`. It is for a Ray that the run itself starts: workers of a cluster start on other nodes.
`+ray_kwargs.ray_init.runtime_env.py_executable=python` has them start as new Pythons.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import DictConfig, OmegaConf
from verl_longrl import secrets
from verl_longrl.platform.zygote import Zygote

from recipe.longrl import worker_env
from recipe.longrl.preflight import cluster


@contextmanager
def forking_python(config: DictConfig) -> Iterator[str | None]:
    """A command to start this run's processes with, while it lasts; None where they start as usual."""
    own_ray_on_the_cpu = config.trainer.device == "cpu" and cluster.starts_here(config)
    if not own_ray_on_the_cpu or OmegaConf.select(config, worker_env.EXECUTABLE):
        yield None
        return
    # without secrets, which imports need not; each fork is given them
    with Zygote(secrets.without({**os.environ, **worker_env.variables(config)})) as zygote:
        yield str(zygote.executable)
