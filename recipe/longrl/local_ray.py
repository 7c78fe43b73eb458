"""Start Ray for one run on this machine, reachable only from this machine.

- Everything listens on loopback: Ray uses 127.0.0.1 as the node's address, as it does by default on a Mac, and verl and
  vLLM take their addresses from Ray. Process groups use the loopback interface.
- Sockets, locks and logs of Ray, vLLM and verl are in a private folder (`private_folders.py`), which is removed after
  the run. When a run fails, Ray's logs are moved to its output folder.
- Without GPUs, its workers are forks (`forked_workers.py`).

A cluster that the run joins is not changed.
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
from recipe.longrl.preflight.nodes.hardware import RAY_FOLDER
from recipe.longrl.worker_env import set_variables

NO_CLUSTER = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's variable; 0 makes loopback the node's address, also on Linux, so that it cannot become part of a cluster."""
LOOPBACK = {NO_CLUSTER: "0", "VLLM_HOST_IP": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
KERNELS = "TORCHINDUCTOR_CACHE_DIR"
"""The folder for torch's compiled kernels; by default it is in the temporary folder and lost after the run."""
ADDRESS = "ray_kwargs.ray_init.address"
LOGS = "ray_logs"


@contextmanager
def own_ray(config: DictConfig) -> Iterator[str | None]:
    """While it lasts, ray.init for this resolved configuration starts a local Ray, unless there is a cluster to join.

    Yields the command that starts workers, None for this Python. Raises private_folders.NotPrivate.
    """
    if not cluster.starts_own_ray(config):
        yield None
        return
    if (problem := cluster.not_joined(config)) is not None:
        print(
            f"{problem}, so the Ray cluster that it names is not joined. To join it, set RAY_ADDRESS=HEAD:PORT",
            flush=True,
        )
    with ExitStack() as stack:
        folder = stack.enter_context(private_folders.run_folder())
        defaults = LOOPBACK | {KERNELS: str(kernel_cache_folder())}
        unset = {name: value for name, value in defaults.items() if name not in os.environ}
        stack.enter_context(_variables({**unset, "TMPDIR": str(folder)}))
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


def kernel_cache_folder() -> Path:
    """The folder for torch's compiled kernels that all runs share. Raises private_folders.NotPrivate."""
    return private_folders.make_private(private_folders.user_folder() / "torchinductor")


def _keep_headers(kernels: Path) -> None:
    """Keep torch's precompiled C++ headers, which take six seconds, for the next run.

    torch writes them to the temporary folder and ignores TORCHINDUCTOR_CACHE_DIR.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    kernels.mkdir(parents=True, exist_ok=True)
    Path(default_cache_dir()).symlink_to(kernels)


@contextmanager
def _variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and update the modules that have read them already."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    try:
        with set_variables(variables):
            ray_constants.ENABLE_RAY_CLUSTER = os.environ[NO_CLUSTER] != "0"
            # Makes tempfile read TMPDIR again.
            tempfile.tempdir = None
            yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        tempfile.tempdir = None


def _keep_logs(folder: Path, kept: Path) -> None:
    """Move Ray's logs of a failed run to `kept`, replacing those of an earlier one."""
    for logs in folder.glob("session_2*/logs"):
        shutil.rmtree(kept, ignore_errors=True)
        shutil.move(logs, kept)
        print(f"Ray's logs: {kept}", flush=True)
