"""The Ray that a run starts itself: for this machine alone, in a folder of the run's own.

- Everything listens on loopback: Ray takes 127.0.0.1 for the node's address, as it does by itself on a Mac, and
  verl and vLLM take theirs from Ray. Process groups are told the loopback interface.
- Sockets, locks and logs of Ray, vLLM and verl are in a private folder (`private_folders.py`), which goes with the
  run. When a run fails, Ray's logs are moved to its output folder.
- Without GPUs its workers are forks (`forked_workers.py`).

A cluster that the run joins is not touched.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from recipe.longrl import private_folders
from recipe.longrl.forked_workers import forking_python
from recipe.longrl.preflight import cluster
from recipe.longrl.preflight.nodes.machine import RAY_FOLDER

NO_CLUSTER = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's variable: where it is 0, a node is never part of a cluster, and its address is loopback; on Linux too."""
LOOPBACK = {NO_CLUSTER: "0", "VLLM_HOST_IP": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
KERNELS = "TORCHINDUCTOR_CACHE_DIR"
"""Where torch keeps what it compiles: else in the temporary folder, gone with the run."""
ADDRESS = "ray_kwargs.ray_init.address"
LOGS = "ray_logs"


@contextmanager
def own_ray(config: DictConfig) -> Iterator[str | None]:
    """While it lasts, ray.init for this resolved configuration starts such a Ray, unless there is one to join.

    Yields what it is to start workers with, None for this Python. Raises scratch.NotPrivate.
    """
    if not cluster.starts_here(config):
        yield None
        return
    if (problem := cluster.not_joined(config)) is not None:
        print(f"{problem}, so the Ray cluster that it names is not joined; RAY_ADDRESS=HEAD:PORT would", flush=True)
    with ExitStack() as stack:
        folder = stack.enter_context(private_folders.of_a_run())
        wanted = LOOPBACK | {KERNELS: str(kernels_of_this_user())}
        own = {name: value for name, value in wanted.items() if name not in os.environ}
        stack.enter_context(_variables({**own, "TMPDIR": str(folder)}))
        _keep_headers(Path(os.environ[KERNELS]))
        for key, value in ((RAY_FOLDER, str(folder)), (ADDRESS, "local")):
            if OmegaConf.select(config, key) is None:
                OmegaConf.update(config, key, value, force_add=True)
                stack.callback(OmegaConf.update, config, key, None, force_add=True)
        try:
            yield stack.enter_context(forking_python(config))
        except Exception:
            _keep_logs(folder, Path(config.longrl.output_dir) / LOGS)
            raise


def kernels_of_this_user() -> Path:
    """The folder that runs share for what torch compiles. Raises scratch.NotPrivate."""
    return private_folders.private(private_folders.of_this_user() / "torchinductor")


def _keep_headers(kernels: Path) -> None:
    """Have the C++ headers that torch compiles, six seconds' work, stay for the next run, as the kernels do.

    torch keeps them in the temporary folder, whatever TORCHINDUCTOR_CACHE_DIR says.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    kernels.mkdir(parents=True, exist_ok=True)
    Path(default_cache_dir()).symlink_to(kernels)


@contextmanager
def _variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process and of those that it starts, and what has read them already."""
    from ray._private import ray_constants

    before = {name: os.environ.get(name) for name in variables}, ray_constants.ENABLE_RAY_CLUSTER
    os.environ.update(variables)
    ray_constants.ENABLE_RAY_CLUSTER = os.environ[NO_CLUSTER] != "0"
    tempfile.tempdir = None  # read again when it is next asked for
    try:
        yield
    finally:
        values, ray_constants.ENABLE_RAY_CLUSTER = before
        for name, value in values.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        tempfile.tempdir = None


def _keep_logs(folder: Path, kept: Path) -> None:
    """Move Ray's logs of a run that failed to where they stay, in the place of those of an earlier one."""
    for logs in folder.glob("session_2*/logs"):
        shutil.rmtree(kept, ignore_errors=True)
        shutil.move(logs, kept)
        print(f"Ray's logs: {kept}", flush=True)
