"""Query nvidia-smi: GPUs, their memory and driver, and the processes that use them.

Any field can be missing: nvidia-smi prints `[N/A]`, `[Not Supported]`, `[Unknown Error]`, or a sentence instead of a
row. Such fields are read as None, and lines that are not rows are left out.
"""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from recipe.longrl.preflight import timed_command

GPU_FIELDS, PROCESS_FIELDS = "uuid,name,driver_version,memory.used,memory.total", "pid,process_name,used_memory"
TIMEOUT_S = 30.0
"""Without its persistence daemon the driver takes seconds to wake up."""
MIN_DRIVERS = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
"""CUDA's major version -> the oldest Linux driver that runs it (CUDA Toolkit release notes, minor version
compatibility)."""


class NvidiaSmiError(RuntimeError):
    """nvidia-smi cannot be queried; the message says why."""


@dataclass(frozen=True)
class Gpu:
    """used, total: MiB of its memory."""

    uuid: str
    kind: str
    driver: str | None
    used: float | None
    total: float | None


def query_gpus(timeout_s: float | None = None) -> list[Gpu]:
    """All GPUs of the machine, also those that CUDA_VISIBLE_DEVICES hides. Raises NvidiaSmiError.

    timeout_s: of nvidia-smi; None for `TIMEOUT_S`.
    """
    gpus = []
    for uuid, *kind, driver, used, total in _query("gpu", GPU_FIELDS, timeout_s):
        version = driver if re.fullmatch(r"\d+(\.\d+)*", driver) else None
        gpus.append(Gpu(uuid, ", ".join(kind), version, _number(used), _number(total)))
    return gpus


def list_gpu_processes() -> list[str]:
    """Descriptions of the processes with memory on a GPU; none where nvidia-smi does not tell."""
    try:
        rows = list(_query("compute-apps", PROCESS_FIELDS))
    except NvidiaSmiError:
        return []
    processes = []
    for pid, *name, used in rows:
        memory = f"{used} MiB" if _number(used) else "memory unknown"
        processes.append(f"process {pid} {', '.join(name)} ({memory})")
    return processes


def driver_problem(gpus: list[Gpu], cuda: str | None) -> str | None:
    """Why these GPUs' driver does not run torch's CUDA version, such as "13.0"; None if it may."""
    major = re.match(r"\d+", cuda or "")
    minimum = MIN_DRIVERS.get(int(major[0])) if major else None
    if minimum is None:
        return None
    too_old = sorted({gpu.driver for gpu in gpus if gpu.driver and _version(gpu.driver) < _version(minimum)})
    if not too_old:
        return None
    return (
        f"driver {', '.join(too_old)} is older than {minimum}, the minimum for CUDA {cuda}, for which the installed "
        f"torch is built. Fix: install NVIDIA driver {minimum.partition('.')[0]} or later (on a cluster: ask for it, "
        "or for a container with CUDA's forward compatibility)"
    )


def _version(text: str) -> list[int]:
    return [int(part) for part in text.split(".")]


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None


def _query(kind: str, fields: str, timeout_s: float | None = None) -> Iterator[list[str]]:
    """The fields of each row. A name may contain commas, so a row can have more fields than were asked for."""
    timeout_s = TIMEOUT_S if timeout_s is None else timeout_s
    command = ["nvidia-smi", f"--query-{kind}={fields}", "--format=csv,noheader,nounits"]
    try:
        output = timed_command.run_command(command, timeout_s)
    except subprocess.TimeoutExpired as error:
        raise NvidiaSmiError(f"nvidia-smi did not end within {timeout_s:.0f} s") from error
    except subprocess.CalledProcessError as error:
        message = " ".join(f"{error.output or ''} {error.stderr or ''}".split())
        raise NvidiaSmiError(f"nvidia-smi failed with status {error.returncode}: {message or 'no message'}") from error
    except OSError as error:
        raise NvidiaSmiError(f"nvidia-smi cannot be started: {type(error).__name__}: {error}") from error
    for line in output.splitlines():
        row = [field.strip() for field in line.split(", ")]
        if len(row) > fields.count(","):
            yield row
