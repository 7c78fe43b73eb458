"""Check that the installed software trains on this machine's GPUs: driver, compiler, attention kernels, flash-attn.

Each is tried, which takes seconds. Without this check a machine that lacks one of them fails minutes into the start,
with a message about something else.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from recipe.longrl import flash_attention
from recipe.longrl.preflight import cluster, nvidia, timed_command
from recipe.longrl.preflight.check import Check, Status
from recipe.longrl.preflight.nodes import gpu_probe
from recipe.longrl.preflight.nodes.probe_input import ClusterNode, DriverFacts, ProbeInput

NAME = "GPU software"
PROBE_TIMEOUT_S, COMPILE_TIMEOUT_S = 60.0, 20.0
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
C_SOURCE = "#include <Python.h>\nlong version(void) { return PY_VERSION_HEX; }\n"


def check_gpu_software_here(config: DictConfig, dry_run: bool) -> Iterator[Check]:
    """The same for the driver's machine, if it trains: not in a dry run or in a cluster, whose nodes are probed."""
    if not dry_run and config.trainer.device == "cuda" and cluster.starts_own_ray(config):
        gpus = cluster.this_machine(config).gpus
        node = ClusterNode("here", socket.gethostname(), gpus, gpus)
        yield from check_gpu_software(ProbeInput(config, node, DriverFacts()))


def check_gpu_software(probe_input: ProbeInput) -> Iterator[Check]:
    """A line for each problem, else one line; none for a machine without GPUs."""
    node, config = probe_input.node, probe_input.config
    if config.trainer.device != "cuda":
        return
    try:
        gpus = nvidia.query_gpus()
    except nvidia.NvidiaSmiError:
        # `hardware.check_gpus` reports it.
        gpus = []
    if not node.gpus and not gpus:
        return
    problems: list[tuple[Status, str]] = []
    facts = ["a C compiler with Python's headers"]
    if (problem := compiler_problem()) is not None:
        problems.append(("FAIL", problem))
    if node.gpus and node.free_gpus < 1:
        facts.append("attention was not tried: other jobs hold all GPUs")
    else:
        report = _run_gpu_probe(config, gpus)
        drivers = sorted({gpu.driver or "unknown" for gpu in gpus})
        facts = [f"driver {', '.join(drivers)} for CUDA {report.get('cuda')}", *report.get("facts", []), *facts]
        if report.get("no_gpu") is not None:
            problems.append(("FAIL", _explain_no_gpu(report["no_gpu"], gpus)))
        elif report.get("problem") is not None:
            problems.append(("FAIL", report["problem"]))
        problems.extend(flash_attention.check_node(config, report.get("flash_attn")))
    if not problems:
        yield Check(NAME, "ok", ", ".join(facts))
    for status, problem in problems:
        yield Check(NAME, status, problem)


def compiler_problem() -> str | None:
    """Why a C file that includes Python's headers cannot be compiled, as Triton does at its first kernel; None if it
    can. The compiler is Triton's (triton/runtime/build.py): CC, else gcc, else clang."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    fix = f"Fix: apt-get install gcc libc6-dev python3.{sys.version_info.minor}-dev, or the like"
    if compiler is None:
        return f"no C compiler (CC, gcc or clang), which Triton and torch.compile need. {fix}"
    scheme = sysconfig.get_default_scheme()
    headers = sysconfig.get_paths("posix_prefix" if scheme == "posix_local" else scheme)["include"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "version.c")
        source.write_text(C_SOURCE)
        command = [compiler, str(source), "-shared", "-fPIC", "-o", str(source.with_suffix(".so")), f"-I{headers}"]
        try:
            timed_command.run_command(command, COMPILE_TIMEOUT_S)
        except (OSError, subprocess.SubprocessError) as error:
            lines = [line.strip() for line in (getattr(error, "stderr", "") or "").splitlines() if "error" in line]
            reason = lines[0] if lines else error
            return f"{compiler} cannot compile with Python's headers, as Triton does ({headers}): {reason}. {fix}"
    return None


def _run_gpu_probe(config: DictConfig, gpus: list[nvidia.Gpu]) -> dict[str, Any]:
    """The report of `gpu_probe`; a `no_gpu` where it did not end well."""
    precision = (config.actor_rollout_ref.actor.fsdp_config.get("mixed_precision") or {}).get("param_dtype", "bf16")
    arguments = {"attention": flash_attention.actor_attention(config), "dtype": DTYPES.get(precision, precision)}
    command = [sys.executable, "-P", gpu_probe.__file__, json.dumps(arguments)]
    try:
        output = timed_command.run_command(command, PROBE_TIMEOUT_S, _environment_with_gpu(gpus))
        report: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
        return report
    except subprocess.TimeoutExpired:
        problem = f"torch did not respond on a GPU within {PROBE_TIMEOUT_S:.0f} s"
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
        problem = f"torch crashed on a GPU: {lines[-1]}"
    except (ValueError, IndexError) as error:
        problem = f"the output of gpu_probe.py cannot be read: {error}"
    return {"no_gpu": problem}


def _environment_with_gpu(gpus: list[nvidia.Gpu]) -> dict[str, str]:
    """An environment with a visible GPU: the user's choice, else the one with least memory in use. Ray sets
    CUDA_VISIBLE_DEVICES to nothing in a worker that asked for no GPU."""
    environment = dict(os.environ)
    if not environment.get("CUDA_VISIBLE_DEVICES"):
        environment.pop("CUDA_VISIBLE_DEVICES", None)
        named = [gpu for gpu in gpus if gpu.uuid.startswith("GPU-")]
        if named:
            environment["CUDA_VISIBLE_DEVICES"] = min(named, key=lambda gpu: gpu.used or 0.0).uuid
    return environment


def _explain_no_gpu(problem: str, gpus: list[nvidia.Gpu]) -> str:
    """Why torch has no GPU: it is built without CUDA, or the driver is too old, or `problem`."""
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return "the installed torch is built without CUDA. Fix: bash scripts/setup.sh gpu"
    too_old = nvidia.driver_problem(gpus, torch.version.cuda)
    return f"torch sees no GPU: {too_old or f'{problem}. Fix: see `nvidia-smi` and `dmesg`'}"
