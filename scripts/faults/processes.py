"""Find the processes of one run among those that its driver started, by their titles."""

import contextlib
from pathlib import Path

import psutil

MARK = "LONGRL_CHAOS_RUN"
"""Environment variable of every process of a run, with a value that identifies the run."""

ROLES = {
    "task_runner": "ray::TaskRunner",
    "trainer_rank": "ray::WorkerDict",
    "vllm_engine": "VLLM::EngineCore",
    "vllm_server": "vLLMHttpServer",
    "agent_loop": "AgentLoopWorker",
    "reward_worker": "RewardLoopWorker",
    "balancer": "PromptAffinityBalancer",
    "queue_controller": "TransferQueueController",
    "queue_storage": "SimpleStorageUnit",
    "raylet": "/raylet/raylet --",
    "gcs": "/gcs/gcs_server --",
    "ray_agent": "ray::RuntimeEnvAgent",
    "zygote": "-m verl_longrl.platform.zygote ",
    "scorers": "-m verl_longrl.rewards.isolation.worker ",
}
"""Kind of process -> part of its title."""


class ProcessFamily:
    """A process and all its descendants, including orphaned ones. mark: the value of `MARK`."""

    def __init__(self, pid: int, mark: str) -> None:
        self._mark = f"{MARK}={mark}".encode()
        self._known: dict[psutil.Process, None] = {psutil.Process(pid): None}

    def alive(self) -> list[psutil.Process]:
        """Living members. A process is a member once a call has seen it below a living member."""
        children: dict[int, list[psutil.Process]] = {}
        for process in psutil.process_iter(["ppid"]):
            children.setdefault(process.info["ppid"], []).append(process)
        parents = living = [process for process in list(self._known) if _is_alive(process)]
        while parents:
            parents = [
                child for parent in parents for child in children.get(parent.pid, []) if child not in self._known
            ]
            self._known.update(dict.fromkeys(parents))
            living += parents
        return living

    def find_survivors(self) -> list[psutil.Process]:
        """Living members, and all other processes on the machine with the mark."""
        marked = [process for process in psutil.process_iter() if self._mark in _environment(process)]
        self._known.update(dict.fromkeys(marked))
        return self.alive()

    def of_role(self, role: str) -> psutil.Process | None:
        """The oldest member of a kind. A process that it forks has the same title for a moment."""
        members = [process for process in self.alive() if ROLES[role] in read_title(process)]
        return min(members, key=psutil.Process.create_time, default=None)

    def kill(self) -> None:
        """Kill all members at once, as if the machine failed."""
        for process in self.find_survivors():
            with contextlib.suppress(psutil.Error):
                process.kill()


def read_title(process: psutil.Process) -> str:
    """The command line, or "" if the process has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _environment(process: psutil.Process) -> bytes:
    """The environment at the process's start. Empty if it cannot be read, or if a title has overwritten it."""
    try:
        return Path(f"/proc/{process.pid}/environ").read_bytes()
    except OSError:
        return b""
