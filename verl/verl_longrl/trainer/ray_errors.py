"""Explain in one line what has died when Ray raises an error.

Ray has a dozen error classes for deaths, raised wherever a result of the dead actor is fetched, with explanations of
pages. Told apart here: memory was short (which processes held it, what to lower), a node is gone, a process ended, the
object store or the disk behind it is full. Any other error is one of the program, even if it ended an actor during its
creation: the same command would end the same way.
"""

import re
from collections.abc import Iterator

from ray import exceptions

DEATHS = (
    exceptions.RayActorError,
    exceptions.WorkerCrashedError,
    exceptions.LocalRayletDiedError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectStoreFullError,
    exceptions.OutOfDiskError,
    exceptions.ObjectLostError,
    exceptions.RaySystemError,
    exceptions.RpcError,
    exceptions.ActorUnschedulableError,
    exceptions.TaskUnschedulableError,
    exceptions.ActorPlacementGroupRemoved,
    exceptions.TaskPlacementGroupRemoved,
)
ENGINE_DEAD = "EngineDeadError"
"""vLLM's, raised by a server whose engine process is gone. Compared by name, because vLLM may not be installed."""
NOT_UP = "The current node timed out during startup"
"""In the plain Exception that Ray raises where its own processes do not start."""
LOWER = (
    "Lower reward.num_workers, longrl.reward.workers, actor_rollout_ref.rollout.agent.num_workers or "
    "data.dataloader_num_workers, switch off param_offload and optimizer_offload, or give the job more memory"
)
ENDED = "its process crashed or was killed, perhaps by the kernel for lack of memory (see `dmesg` on its machine)"
HOLDERS = 3
"""How many of the processes with the most memory are named."""
_ESCAPES = re.compile(r"\x1b\[[\d;]*m")


def find_death(error: BaseException) -> str | None:
    """The death (or the full disk) that caused this error, in words; None for an error of the program."""
    for cause in _causes(error):
        if isinstance(cause, DEATHS) and not _of_the_program(cause):
            return _line(cause)
        if type(cause).__name__ == ENGINE_DEAD:
            return "a vLLM engine died; train.log has its last lines"
        if NOT_UP in str(cause):
            return "Ray did not start on this machine, which may be too busy"
    return None


def explain_death(message: str) -> str:
    """Ray's explanation of a death without its advice; ours where memory was short."""
    if "running low on memory" in message:
        return _memory_was_short(message)
    # The raylet's socket to the process was closed.
    if "connection error code" in message:
        return ENDED
    return " ".join(message.split(" Some common causes", 1)[0].split()).rstrip(".")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those it was raised from, in this process or in that of a Ray task."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        # RayTaskError wraps the error that a task raised in its own process.
        current = getattr(current, "cause", None) if isinstance(current, exceptions.RayTaskError) else current
        if not isinstance(current, BaseException):
            return
        yield current
        current = current.__cause__ or current.__context__


def _of_the_program(error: BaseException) -> bool:
    """Whether an actor's own __init__ raised it, or unpickling did."""
    return bool(getattr(error, "actor_init_failed", False) or getattr(error, "traceback_str", None))


def _line(error: BaseException) -> str:
    text = _ESCAPES.sub("", str(error)).strip()
    if isinstance(error, exceptions.ObjectStoreFullError | exceptions.OutOfDiskError):
        return (
            "Ray's object store is full and has no room to spill to. Fix: free the disk of Ray's temporary folder "
            "(/tmp/ray), or set ray_kwargs.ray_init._temp_dir to a folder on a larger disk"
        )
    # Ray's text has a line for each of these facts, such as `class_name: WorkerDict`, and its explanation in the last
    # one.
    if isinstance(error, exceptions.RayActorError) and (name := re.search(r"class_name: (\S+)", text)):
        process, node = re.search(r"\tpid: (\d+)", text), re.search(r"\tip: (\S+)", text)
        where = f" (process {process[1]} on {node[1]})" if process and node else ""
        return f"{name[1].rsplit('.', 1)[-1]}{where} died: {explain_death(text.splitlines()[-1])}"
    return explain_death(text) or type(error).__name__


def _memory_was_short(message: str) -> str:
    """In one line: the node, the processes that Ray's memory monitor ended, and those that held most memory."""
    node = re.search(r"\(IP: ([^,]+),.*? was (\S+) used / (\S+) limit", message)
    where = f"memory of node {node[1]} was short ({node[2]} of {node[3]} used)" if node else "memory was short"
    ended = re.findall(r"task name=([^,]+?)(?:\.__init__)?,.*?pid=(\d+), actual memory used=([^,]+)", message)
    names = ", ".join(f"{name} (process {process}, {held})" for name, process, held in ended) or "a worker"
    users = re.findall(r"^\d+\t([\d.]+)\t(.+)$", message, re.MULTILINE)[:HOLDERS]
    most = ", ".join(f"{command.strip()[:40]} {held} GB" for held, command in users)
    return f"{where}, so Ray's memory monitor ended {names}{f'; most was held by {most}' if most else ''}. {LOWER}"
