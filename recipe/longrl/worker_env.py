"""What is set where the run is started reaches every worker, also those of a Ray that ran before it.

Workers of a Ray started by the run inherit its environment; those of a running cluster have the environment of the
`ray start` on their node, and verl hands them a dozen variables of its own. So ours go with the job: Ray reads a
job's runtime environment from a variable (its own way for Ray Jobs) and gives it to every worker. Keys and tokens go
beside it, in a file (`verl_longrl.secrets`): Ray logs runtime environments and passes them on command lines.

Carried: `PREFIXES`, `NAMES`, the judge's key, and what LONGRL_FORWARD_ENV=A,B names. Not carried: what a node or a
process has for itself. What the configuration says (ray_kwargs.ray_init.runtime_env.env_vars) is above all of it.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from verl_longrl import secrets
from verl_longrl.rewards.options import JudgeOptions

JOB_CONFIG, OVERRIDE = "RAY_JOB_CONFIG_JSON_ENV_VAR", "RAY_OVERRIDE_JOB_RUNTIME_ENV"
"""Where ray.init reads a job's runtime environment, and whether what it is given itself goes above it."""

EXECUTABLE = "ray_kwargs.ray_init.runtime_env.py_executable"
"""What Ray calls in the place of python to start a worker."""

SETUP_HOOK = "ray_kwargs.ray_init.runtime_env.worker_process_setup_hook"
"""What every worker calls before anything else, if a user says it; else it is ours."""
HOOK = "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"
"""The variable by which Ray names it to the workers."""

FORWARD = "LONGRL_FORWARD_ENV"
"""Names the user's own variables, separated by commas."""

PLUGIN = "verl_longrl.plugin"
EXTERNAL = "VERL_USE_EXTERNAL_MODULES"
"""Modules that verl imports in every process, or fails; a plugin it only finds by itself, it skips without a word."""

PREFIXES = (
    *("LONGRL_", "VERL_", "VLLM_", "SGLANG_", "NCCL_", "GLOO_", "UCX_", "TORCH_", "PYTORCH_", "NVTE_"),
    *("HF_", "TRANSFORMERS_", "TOKENIZERS_", "OPENAI_", "WANDB_", "MLFLOW_", "SWANLAB_", "TENSORBOARD_"),
)
NAMES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_DEVICE_MAX_CONNECTIONS", "CUDA_LAUNCH_BLOCKING"),
    *("CUBLAS_WORKSPACE_CONFIG", "PYTHONHASHSEED", "HYDRA_FULL_ERROR"),
)
OF_THE_NODE = (
    *("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_ASSETS_CACHE", "HF_XET_CACHE", "TRANSFORMERS_CACHE"),
    *("TORCH_HOME", "TORCH_EXTENSIONS_DIR", "VLLM_CACHE_ROOT", "VLLM_CONFIG_ROOT", "VLLM_HOST_IP", "VLLM_PORT"),
    *("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR"),
)
"""Under the prefixes, but caches and addresses of one node; LONGRL_FORWARD_ENV carries them all the same."""

OF_THE_PROCESS = ("CUDA_VISIBLE_DEVICES", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OF_THE_PROCESS_PREFIXES = ("RAY_", "SLURM_", "SLURMD_", "PMI_", "PMIX_", "OMPI_")
"""What Ray, Slurm or MPI set for one process: in another it is wrong, so it is never carried."""

VARIABLES = "ray_kwargs.ray_init.runtime_env.env_vars"
"""Of the configuration. Numbers and truth values become text as YAML writes them (2, 0.5, true); null leaves the
variable to the process that starts the run."""

SIZES = ("num_cpus", "num_gpus", "resources", "labels", "object_store_memory")
"""Keys of ray_kwargs.ray_init that a running cluster has for itself, and ray.init refuses when it joins one."""


class ForwardError(ValueError):
    """A variable that cannot be carried; the message says which and why."""


class Carried(NamedTuple):
    """What every worker gets: variables of its runtime environment, and secrets, from the run's file."""

    variables: dict[str, str]
    secrets: dict[str, str]


def carried(environment: Mapping[str, str], names: Iterable[str] = ()) -> Carried:
    """What every worker gets of `environment`. names: others that are carried if they are set.

    Raises ForwardError when LONGRL_FORWARD_ENV names one that is not set or belongs to a process.
    """
    asked = forwarded(environment)
    if absent := [name for name in asked if name not in environment]:
        raise ForwardError(f"{FORWARD} names {', '.join(absent)}, not set here; export it, or leave it out")
    if own := [name for name in asked if name in OF_THE_PROCESS or name.startswith(OF_THE_PROCESS_PREFIXES)]:
        raise ForwardError(f"{FORWARD} names {', '.join(own)}, which each process is given for itself; leave it out")
    found = {name for name in environment if name.startswith(PREFIXES) or name in NAMES} - {*OF_THE_NODE}
    chosen = sorted(found | {*asked} | {name for name in names if name in environment})
    hidden = secrets.select({name: environment[name] for name in chosen})
    modules = [module for module in environment.get(EXTERNAL, "").split(",") if module and module != PLUGIN]
    open_ones = {name: environment[name] for name in chosen if name not in hidden}
    return Carried(open_ones | {EXTERNAL: ",".join([*modules, PLUGIN])}, hidden)


def forwarded(environment: Mapping[str, str]) -> list[str]:
    """The names in LONGRL_FORWARD_ENV."""
    return [name.strip() for name in environment.get(FORWARD, "").split(",") if name.strip()]


def carried_by(config: DictConfig) -> Carried:
    """What every worker of a run gets of this process's variables. Raises ForwardError."""
    key = config.longrl.judge.get("api_key_env", JudgeOptions.api_key_env)
    secrets.declare_secrets(key)
    return carried(os.environ, [key])


def variables(config: DictConfig) -> dict[str, str]:
    """All but secrets that workers of a run get above the environment that they start in. Raises ForwardError."""
    return carried_by(config).variables | runtime_env(config)["env_vars"]


def runtime_env(config: DictConfig) -> dict[str, Any]:
    """The runtime environment that ray.init is given for a run: verl's, and above it the configuration's."""
    from verl.trainer.constants_ppo import get_ppo_ray_runtime_env

    own = config.ray_kwargs.ray_init.get("runtime_env") or {}
    merged: Any = OmegaConf.to_container(OmegaConf.merge(get_ppo_ray_runtime_env(config), own), resolve=True)
    return {**merged, "env_vars": as_text(merged.get("env_vars") or {})}


def variables_as_text(config: DictConfig) -> None:
    """Make the configuration's variables text, in place, which is all that Ray accepts; null ones are dropped.

    Raises ForwardError for a value that no variable can have.
    """
    given = OmegaConf.select(config, VARIABLES)
    if given is not None:
        own = config.ray_kwargs.ray_init.runtime_env
        own.env_vars = as_text(OmegaConf.to_container(given, resolve=True) if OmegaConf.is_config(given) else given)


def as_text(variables: Any) -> dict[str, str]:
    """Variables with their values as text, without those that are null. Raises ForwardError."""
    if not isinstance(variables, dict):
        raise ForwardError(f"{VARIABLES} = {variables!r}: expected names and values, such as {{OMP_NUM_THREADS: 2}}")
    texts = {}
    for name, value in variables.items():
        if isinstance(value, bool):
            texts[name] = str(value).lower()
        elif isinstance(value, str | int | float):
            texts[name] = str(value)
        elif value is not None:
            raise ForwardError(f"{VARIABLES}.{name} = {value!r}: expected text, a number, true or false, or null")
    return texts


@contextmanager
def carrying(config: DictConfig, visiting: bool = False) -> Iterator[list[str]]:
    """While it lasts, ray.init gives every worker what is carried, and workers can be started. Yields the names. Raises
    ForwardError, SecretsError.

    visiting: a run may be going on in the folder, and workers that cannot read its files are to say so themselves.
    """
    found, folder = carried_by(config), Path(config.longrl.output_dir)
    loading = {}
    if not visiting:
        secrets.remove_leftover_files(folder)
        if not OmegaConf.select(config, SETUP_HOOK):
            loading = {HOOK: "verl_longrl.secrets.load"}
    with secrets.file_for_run(folder, found.secrets) as place:
        ours = {
            **_job_config({**found.variables, **loading, secrets.FILE_VARIABLE: place[secrets.FILE_VARIABLE]}),
            **place,
        }
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield sorted({**found.variables, **found.secrets})
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _job_config(variables: Mapping[str, str]) -> dict[str, str]:
    """The job's runtime environment with these variables too, in the variables that ray.init reads it from."""
    job: dict[str, Any] = json.loads(os.environ.get(JOB_CONFIG, "{}"))
    runtime_env = job.get("runtime_env") or {}
    runtime_env = {**runtime_env, "env_vars": {**as_text(runtime_env.get("env_vars") or {}), **variables}}
    return {JOB_CONFIG: json.dumps({"metadata": {}, **job, "runtime_env": runtime_env}), OVERRIDE: "1"}


def leave_sizes_to_the_cluster(config: DictConfig) -> None:
    """Drop what a hardware group says about a Ray of the run's own, when there is one to join by its address."""
    ray_init = config.ray_kwargs.ray_init
    if (os.environ.get("RAY_ADDRESS") or ray_init.get("address") or "local") != "local":
        for key in SIZES:
            if OmegaConf.is_interpolation(ray_init, key) or ray_init.get(key) is not None:
                ray_init[key] = None
