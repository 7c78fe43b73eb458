"""The processes of one run: found among what its driver started, by their titles, and never by name on the machine."""

import contextlib
from pathlib import Path

import psutil

MARK = "LONGRL_CHAOS_RUN"
"""Variable that every process of a run has, with a value of the run's own."""

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
"""Kinds of processes, and what their titles contain."""


class Family:
    """A process and all that it has started, also what has outlived its parent. mark: the value of its `MARK`."""

    def __init__(self, pid: int, mark: str) -> None:
        self._mark = f"{MARK}={mark}".encode()
        self._known: dict[psutil.Process, None] = {psutil.Process(pid): None}

    def alive(self) -> list[psutil.Process]:
        """Those that live now, as far as they were under a living one at some call of this."""
        children: dict[int, list[psutil.Process]] = {}
        for process in psutil.process_iter(["ppid"]):
            children.setdefault(process.info["ppid"], []).append(process)
        parents = living = [process for process in list(self._known) if _lives(process)]
        while parents:
            parents = [
                child for parent in parents for child in children.get(parent.pid, []) if child not in self._known
            ]
            self._known.update(dict.fromkeys(parents))
            living += parents
        return living

    def left(self) -> list[psutil.Process]:
        """Those that live now, and any other process on the machine with the mark."""
        marked = [process for process in psutil.process_iter() if self._mark in _environment(process)]
        self._known.update(dict.fromkeys(marked))
        return self.alive()

    def of_role(self, role: str) -> psutil.Process | None:
        """The oldest of a kind: what is forked from it has its title for a moment."""
        found = [process for process in self.alive() if ROLES[role] in title(process)]
        return min(found, key=psutil.Process.create_time, default=None)

    def kill(self) -> None:
        """All at once, as when the machine fails."""
        for process in self.left():
            with contextlib.suppress(psutil.Error):
                process.kill()


def title(process: psutil.Process) -> str:
    """The command line; "" of a process that has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _environment(process: psutil.Process) -> bytes:
    """As it was at the process's start. Empty where it cannot be read, and where a title was written over it."""
    try:
        return Path(f"/proc/{process.pid}/environ").read_bytes()
    except OSError:
        return b""
