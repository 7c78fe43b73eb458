"""Start the trainer ranks of a supervised run with torchrun, on this machine, and pass on what they print.

`python -m recipe.longrl.sft.ranks PARENT RANKS PORT CONFIG` is torchrun as a child of the process PARENT: it is killed
with its parent, and the ranks with it. Everything listens on loopback.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from verl_longrl.engine.supported import VENDOR
from verl_longrl.network import rendezvous
from verl_longrl.trainer.checkpoints import write_atomic

from recipe.longrl.local_ray import LOOPBACK
from recipe.longrl.parallelism import n_gpus
from recipe.longrl.parent_death import end_with_parent
from recipe.longrl.sft.options import trainer_config
from recipe.longrl.worker_env import VARIABLES

CONFIG = "ranks.yaml"
"""The configuration of verl's SFT trainer for this start, in the run's folder."""
PARENT = "LONGRL_RANKS_PARENT"
"""The variable with the process that the ranks end with: torchrun."""
HOST = "127.0.0.1"


def run_ranks(config: DictConfig) -> int:
    """Train in all ranks; returns torchrun's exit status. Ends torchrun where this process is interrupted."""
    file = Path(config.longrl.output_dir) / CONFIG
    write_atomic(file, OmegaConf.to_yaml(OmegaConf.create(trainer_config(config))))
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "recipe.longrl.sft.ranks"]
    command += [str(os.getpid()), str(n_gpus(config)), str(port), str(file)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=rank_environment(config),
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
        return process.wait()
    finally:
        process.terminate()
        process.wait()


def rank_environment(config: DictConfig) -> dict[str, str]:
    """The environment of the ranks. What the user has set wins over the configuration's variables."""
    configured = OmegaConf.select(config, VARIABLES) or {}
    variables = {str(name): str(value) for name, value in configured.items() if value is not None}
    if config.trainer.device == "cpu":
        # A rank of reinforcement learning shares the cores with vLLM and has one thread; here it has its share of them.
        variables["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // n_gpus(config)))
    if config.longrl.engine != "upstream":
        variables["VERL_ENGINE_VENDOR"] = VENDOR.format(config.longrl.engine)
    return {**variables, **LOOPBACK, **os.environ}


def main() -> None:
    """torchrun, with a store for the rendezvous that listens on loopback only."""
    from torch.distributed.elastic.rendezvous import static_tcp_rendezvous
    from torch.distributed.run import main as torchrun

    parent, ranks, port, file = sys.argv[1:]
    end_with_parent(int(parent))
    os.environ[PARENT] = str(os.getpid())
    static_tcp_rendezvous.TCPStore = rendezvous.loopback_store  # type: ignore[assignment,misc]
    torchrun(
        [
            *("--nnodes=1", f"--nproc-per-node={ranks}", "--rdzv-backend=static", f"--rdzv-endpoint={HOST}:{port}"),
            *("--node-rank=0", f"--master-addr={HOST}", f"--master-port={port}"),
            *("-m", "recipe.longrl.sft.worker", file),
        ]
    )


if __name__ == "__main__":
    main()
