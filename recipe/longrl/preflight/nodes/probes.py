"""The probes that run on every node, in this order: those that a dead disk or server can hang come last."""

import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from recipe.longrl.preflight.check import Check, collect
from recipe.longrl.preflight.nodes import gpu_software, hardware, input_files, shared_folders, software
from recipe.longrl.preflight.nodes.probe_input import ProbeInput

Probe = Callable[[ProbeInput], Iterator[Check]]
HARDWARE: dict[str, Probe] = {
    "GPUs": hardware.check_gpus,
    "shared memory": hardware.check_shared_memory,
    "disk": hardware.check_ray_disk,
}
ALL: dict[str, Probe] = {
    "clock": hardware.check_clock,
    **HARDWARE,
    "GPU software": gpu_software.check_gpu_software,
    "packages": software.check_packages,
    "folders": shared_folders.check_driver_files,
    "files": input_files.check_input_files,
    "judge": software.check_judge_from_node,
}


def run_all_probes(probe_input: ProbeInput, seconds: float) -> list[Check]:
    """The lines of a node, at most `seconds` after the driver asked for them, as far as the clocks agree."""
    startup = time.time() - probe_input.driver.time
    return run_probes(probe_input, seconds - min(max(startup, 0.0), seconds / 2), ALL)


def run_probes(probe_input: ProbeInput, seconds: float, probes: Mapping[str, Probe]) -> list[Check]:
    """The lines of this machine. A probe that has not ended after `seconds` is named, and not waited for."""
    checks: list[Check] = []
    started: list[str] = []

    def run() -> None:
        for name, probe in probes.items():
            started.append(name)
            checks.extend(collect(name, functools.partial(probe, probe_input)))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        fix = "look for a hung disk or server there; if the cluster is slow, raise --timeout"
        return [*checks, Check(started[-1], "FAIL", f"timed out (later checks skipped). Fix: {fix}")]
    return checks
