"""What Ray reports when a part of a run has died, in one line for people.

Ray has a dozen classes of errors for it, raised wherever a result of what is gone is asked for, and explains them in
pages. Told apart here: memory was short (who held it, what to lower), a node is gone, a process ended, the object store
or the disk behind it is full. Any other error is one of the program, also where it ended an actor that was only just
being made: the same command would end the same way.
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
"""vLLM's, raised by a server whose engine's process is gone while its own lives. By name: vLLM may not be installed."""
NOT_UP = "The current node timed out during startup"
"""In the plain Exception that Ray raises where its own processes do not come up."""
LOWER = (
    "Lower reward.num_workers, longrl.reward.workers, actor_rollout_ref.rollout.agent.num_workers or "
    "data.dataloader_num_workers, switch off param_offload and optimizer_offload, or give the job more memory"
)
ENDED = "its process crashed or was killed, perhaps by the kernel for want of memory (`dmesg` there tells)"
HOLDERS = 3
"""Of the processes that hold most memory, so many are named."""
_ESCAPES = re.compile(r"\x1b\[[\d;]*m")


def death(error: BaseException) -> str | None:
    """What has died, or what was full, that this error came of; None when it is an error of the program."""
    for each in _causes(error):
        if isinstance(each, DEATHS) and not _of_the_program(each):
            return _line(each)
        if type(each).__name__ == ENGINE_DEAD:
            return "a vLLM engine died; its last words are in train.log"
        if NOT_UP in str(each):
            return "Ray did not come up on this machine, which may be too busy"
    return None


def explained(message: str) -> str:
    """Ray's explanation of a death without its advice; where the memory was short, ours."""
    if "running low on memory" in message:
        return _memory_was_short(message)
    if "connection error code" in message:  # the raylet's socket to it was closed
        return ENDED
    return " ".join(message.split(" Some common causes", 1)[0].split()).rstrip(".")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those it was raised from, on whatever process."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        found = getattr(found, "cause", None) if isinstance(found, exceptions.RayTaskError) else found
        if not isinstance(found, BaseException):
            return
        yield found
        found = found.__cause__ or found.__context__


def _of_the_program(error: BaseException) -> bool:
    """Whether it was raised by an actor's own __init__, or by what could not be unpickled."""
    return bool(getattr(error, "actor_init_failed", False) or getattr(error, "traceback_str", None))


def _line(error: BaseException) -> str:
    text = _ESCAPES.sub("", str(error)).strip()
    if isinstance(error, exceptions.ObjectStoreFullError | exceptions.OutOfDiskError):
        return (
            "Ray's object store is full and has no room to spill to: free the disk that holds Ray's temporary folder "
            "(/tmp/ray, or ray_kwargs.ray_init._temp_dir), or name a larger one there"
        )
    if isinstance(error, exceptions.RayActorError) and (name := re.search(r"class_name: (\S+)", text)):
        process, node = re.search(r"\tpid: (\d+)", text), re.search(r"\tip: (\S+)", text)
        where = f" (process {process[1]} on {node[1]})" if process and node else ""
        return f"{name[1].rsplit('.', 1)[-1]}{where} died: {explained(text.splitlines()[-1])}"
    return explained(text) or type(error).__name__


def _memory_was_short(message: str) -> str:
    """In one line: on which node, what Ray's memory monitor ended for it, and who held most."""
    node = re.search(r"\(IP: ([^,]+),.*? was (\S+) used / (\S+) limit", message)
    where = f"memory of node {node[1]} was short ({node[2]} of {node[3]} used)" if node else "memory was short"
    ended = re.findall(r"task name=([^,]+?)(?:\.__init__)?,.*?pid=(\d+), actual memory used=([^,]+)", message)
    names = ", ".join(f"{name} (process {process}, {held})" for name, process, held in ended) or "a worker"
    users = re.findall(r"^\d+\t([\d.]+)\t(.+)$", message, re.MULTILINE)[:HOLDERS]
    most = ", ".join(f"{command.strip()[:40]} {held} GB" for held, command in users)
    return f"{where}, so Ray's memory monitor ended {names}{f'; most was held by {most}' if most else ''}. {LOWER}"
