"""What is looked at on a node, in this order: what may hang on a dead disk or server comes last."""

from collections.abc import Callable, Iterator

from recipe.longrl.preflight.check import describe
from recipe.longrl.preflight.nodes import files, folders, gpu_software, machine, software
from recipe.longrl.preflight.nodes.finding import Finding
from recipe.longrl.preflight.nodes.question import Question

Look = Callable[[Question], Iterator[Finding]]
MACHINE: dict[str, Look] = {
    "cores": machine.cores,
    "GPUs": machine.gpus,
    "shared memory": machine.shared_memory,
    "ports": machine.ports,
    "disk": machine.disks,
}
LOOKS: dict[str, Look] = {
    **MACHINE,
    "GPU software": gpu_software.look,
    "packages": software.packages,
    "variables": software.variables,  # after the imports above, which set some here as they did on the driver
    "folders": folders.shared,
    "files": files.same,
    "keys": software.keys,
    "judge": software.judge_answers,
}


def look(name: str, question: Question) -> list[Finding]:
    """The findings of one look; if it breaks, those it had and a failure with what broke it."""
    found: list[Finding] = []
    try:
        found.extend(LOOKS[name](question))
    except Exception as error:  # noqa: BLE001  whatever it is, the other looks go on and the user reads it
        found.append(Finding(name, "FAIL", f"this look broke with {describe(error)}; report this"))
    return found
