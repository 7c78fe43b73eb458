"""On a machine without GPUs, fork a run's Ray workers from one process that has already imported everything.

Otherwise most of a start is a dozen processes importing torch, transformers and vLLM on a few cores; see
`verl_longrl.platform.zygote`. Only for a Ray that the run starts itself, because workers of a cluster start on other
nodes. `+ray_kwargs.ray_init.runtime_env.py_executable=python` starts new Python processes instead.
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
    """While it lasts, a command that starts this run's workers; None where Ray starts them as usual."""
    own_ray_on_the_cpu = config.trainer.device == "cpu" and cluster.starts_own_ray(config)
    if not own_ray_on_the_cpu or OmegaConf.select(config, worker_env.EXECUTABLE):
        yield None
        return
    # Imports do not need the secrets; each fork gets them later.
    with Zygote(secrets.without({**os.environ, **worker_env.public_variables(config)})) as zygote:
        yield str(zygote.executable)
