"""Forward environment variables from the process that starts a run to every Ray worker.

Workers of a Ray that the run starts inherit its environment. Workers of a running cluster have the environment of the
`ray start` on their node, and verl sets only a dozen variables for them. So we add ours to the job's runtime
environment, which Ray reads from a variable (as it does for Ray Jobs) and gives to every worker. Keys and tokens are
passed in a file instead (`verl_longrl.secrets`), because Ray logs runtime environments and puts them on command lines.

Forwarded are variables in `PREFIXES` and `NAMES`, the judge's key, and those that LONGRL_FORWARD_ENV=A,B names.
Variables that belong to a node or a process are not forwarded. The configuration's
ray_kwargs.ray_init.runtime_env.env_vars takes precedence over all of them.
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
"""Ray reads a job's runtime environment from the first; the second lets arguments of ray.init take precedence."""

EXECUTABLE = "ray_kwargs.ray_init.runtime_env.py_executable"
"""The command that Ray starts a worker with, instead of python."""

SETUP_HOOK = "ray_kwargs.ray_init.runtime_env.worker_process_setup_hook"
"""A function that every worker calls first; ours unless the user sets one."""
HOOK = "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"
"""The variable in which Ray passes the name of that function to the workers."""

FORWARD = "LONGRL_FORWARD_ENV"
"""Lists further variables to forward, separated by commas."""

PLUGIN = "verl_longrl.plugin"
EXTERNAL = "VERL_USE_EXTERNAL_MODULES"
"""Lists modules that verl imports in every process. verl fails if it cannot import one of these, but silently skips a
plugin that it discovers itself."""

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
"""Caches and addresses of one node, which match the prefixes; only LONGRL_FORWARD_ENV forwards them."""

OF_THE_PROCESS = ("CUDA_VISIBLE_DEVICES", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OF_THE_PROCESS_PREFIXES = ("RAY_", "SLURM_", "SLURMD_", "PMI_", "PMIX_", "OMPI_")
"""Set by Ray, Slurm or MPI for one process and wrong in any other, so never forwarded."""

VARIABLES = "ray_kwargs.ray_init.runtime_env.env_vars"
"""The configuration's variables. Numbers and truth values become text as in YAML (2, 0.5, true); null removes an entry,
so that the variable of the starting process applies."""

SIZES = ("num_cpus", "num_gpus", "resources", "labels", "object_store_memory")
"""Keys of ray_kwargs.ray_init that ray.init refuses when it joins a running cluster."""


class ForwardError(ValueError):
    """A variable that cannot be forwarded; the message names it and the reason."""


class ForwardedEnv(NamedTuple):
    """The forwarded variables: public ones for the runtime environment, and secrets for the run's file."""

    variables: dict[str, str]
    secrets: dict[str, str]


def forwarded_env(environment: Mapping[str, str], names: Iterable[str] = ()) -> ForwardedEnv:
    """The variables of `environment` that every worker gets. names: further ones, forwarded if they are set.

    Raises ForwardError when LONGRL_FORWARD_ENV names a variable that is not set or belongs to a process.
    """
    requested = requested_names(environment)
    if missing := [name for name in requested if name not in environment]:
        raise ForwardError(f"{FORWARD} names {', '.join(missing)}: not set here. Fix: export it, or leave it out")
    if fixed := [name for name in requested if name in OF_THE_PROCESS or name.startswith(OF_THE_PROCESS_PREFIXES)]:
        raise ForwardError(f"{FORWARD} names {', '.join(fixed)}: set for each process separately. Fix: leave it out")
    matching = {name for name in environment if name.startswith(PREFIXES) or name in NAMES} - {*OF_THE_NODE}
    chosen = sorted(matching | {*requested} | {name for name in names if name in environment})
    secret = secrets.select({name: environment[name] for name in chosen})
    public = {name: environment[name] for name in chosen if name not in secret}
    # Our plugin comes last, after the user's modules.
    modules = [module for module in environment.get(EXTERNAL, "").split(",") if module and module != PLUGIN]
    return ForwardedEnv(public | {EXTERNAL: ",".join([*modules, PLUGIN])}, secret)


def requested_names(environment: Mapping[str, str]) -> list[str]:
    """The names in LONGRL_FORWARD_ENV."""
    return [name.strip() for name in environment.get(FORWARD, "").split(",") if name.strip()]


def env_of_config(config: DictConfig) -> ForwardedEnv:
    """The variables of this process that every worker of a run gets. Raises ForwardError."""
    key = config.longrl.judge.get("api_key_env", JudgeOptions.api_key_env)
    secrets.declare_secrets(key)
    return forwarded_env(os.environ, [key])


def public_variables(config: DictConfig) -> dict[str, str]:
    """All variables except secrets that workers of a run get, from here and the configuration. Raises ForwardError."""
    return env_of_config(config).variables | runtime_env(config)["env_vars"]


def runtime_env(config: DictConfig) -> dict[str, Any]:
    """The runtime environment of a run for ray.init: verl's, overridden by the configuration's."""
    from verl.trainer.constants_ppo import get_ppo_ray_runtime_env

    configured = config.ray_kwargs.ray_init.get("runtime_env") or {}
    merged: Any = OmegaConf.to_container(OmegaConf.merge(get_ppo_ray_runtime_env(config), configured), resolve=True)
    return {**merged, "env_vars": values_as_text(merged.get("env_vars") or {})}


def convert_variables_to_text(config: DictConfig) -> None:
    """Convert the configuration's variables to text, which is all that Ray accepts, in place; null ones are dropped.

    Raises ForwardError for a value that a variable cannot have.
    """
    variables = OmegaConf.select(config, VARIABLES)
    if variables is not None:
        plain = OmegaConf.to_container(variables, resolve=True) if OmegaConf.is_config(variables) else variables
        config.ray_kwargs.ray_init.runtime_env.env_vars = values_as_text(plain)


def values_as_text(variables: Any) -> dict[str, str]:
    """Variables with their values as text, without null ones. Raises ForwardError."""
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
def forward_env(config: DictConfig, visiting: bool = False) -> Iterator[list[str]]:
    """While it lasts, ray.init forwards variables and secrets to every worker. Yields the forwarded names.

    visiting: for checks that may run while a run uses the folder: they keep the run's files, and workers do not load
    the secrets, so that one that cannot read the file reports that itself. Raises ForwardError, SecretsError.
    """
    forwarded, folder = env_of_config(config), Path(config.longrl.output_dir)
    hook = {}
    if not visiting:
        secrets.remove_leftover_files(folder)
        if not OmegaConf.select(config, SETUP_HOOK):
            hook = {HOOK: "verl_longrl.secrets.load"}
    with secrets.file_for_run(folder, forwarded.secrets) as place:
        ours = {
            **_job_config({**forwarded.variables, **hook, secrets.FILE_VARIABLE: place[secrets.FILE_VARIABLE]}),
            **place,
        }
        with set_variables(ours):
            yield sorted({**forwarded.variables, **forwarded.secrets})


@contextmanager
def set_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process's environment during the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _job_config(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that ray.init reads the job's runtime environment from, with these variables added to it."""
    job: dict[str, Any] = json.loads(os.environ.get(JOB_CONFIG, "{}"))
    runtime_env = job.get("runtime_env") or {}
    runtime_env = {**runtime_env, "env_vars": {**values_as_text(runtime_env.get("env_vars") or {}), **variables}}
    return {JOB_CONFIG: json.dumps({"metadata": {}, **job, "runtime_env": runtime_env}), OVERRIDE: "1"}


def drop_sizes_when_joining(config: DictConfig) -> None:
    """Drop the sizes that a hardware group sets for the run's own Ray when the run joins a cluster by its address."""
    ray_init = config.ray_kwargs.ray_init
    if (os.environ.get("RAY_ADDRESS") or ray_init.get("address") or "local") != "local":
        for key in SIZES:
            if OmegaConf.is_interpolation(ray_init, key) or ray_init.get(key) is not None:
                ray_init[key] = None
