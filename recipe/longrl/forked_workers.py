"""On a machine without GPUs a run's Ray workers are forked from one process that has done their imports.

A start there was mostly a dozen processes importing torch, transformers and vLLM on a few cores; see
`verl_longrl.platform.zygote`. It is for a Ray that the run itself starts: workers of a cluster start on other nodes.
`+ray_kwargs.ray_init.runtime_env.py_executable=python` has them start as new Pythons.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import DictConfig, OmegaConf, open_dict
from verl_longrl.platform.zygote import Zygote

from recipe.longrl import workers
from recipe.longrl.preflight import cluster

EXECUTABLE = "ray_kwargs.ray_init.runtime_env.py_executable"


@contextmanager
def forked_workers(config: DictConfig) -> Iterator[None]:
    """While it lasts, `config` has Ray fork its workers, where that is possible and the user has not said otherwise."""
    if config.trainer.device != "cpu" or not cluster.starts_here(config) or OmegaConf.select(config, EXECUTABLE):
        yield
        return
    variables = workers.carried_by(config) | workers.runtime_env(config)["env_vars"]
    with Zygote({**os.environ, **variables}) as zygote:
        OmegaConf.update(config, EXECUTABLE, str(zygote.executable), force_add=True)
        try:
            yield
        finally:
            with open_dict(config):
                del config.ray_kwargs.ray_init.runtime_env.py_executable
