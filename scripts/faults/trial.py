"""One run in a separate folder, from its first start until the same command ends with 0.

FOLDER/assets/         data and model, a copy that a fault may change
FOLDER/run/            the run's output folder, which also has files that do not belong to the run
FOLDER/beside/         more such files
FOLDER/console-1.txt   output of the first start
"""

import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verl_longrl.trainer.checkpoints import MANIFEST

from faults import small_run
from faults.leak_monitor import LeakMonitor
from faults.misbehaving_judge import MisbehavingJudge
from faults.processes import MARK, ProcessFamily

SCRIPTS = Path(__file__).resolve().parents[1]
SECRETS = (
    *("HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY", "LONGRL_JUDGE_API_KEY"),
    *("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD"),
)
"""Environment variables with a secret, whose values must not appear anywhere."""
USER_FILES = (
    "beside/notes.txt",
    "run/notes/ideas.md",
    "run/checkpoints/best_so_far/weights.bin",
    "run/chunk/mine.jsonl",
)
"""Files of the user, which no run may change."""
USER_FILE_TEXT = "This file does not belong to the run.\n"
TIMEOUT_S = 900.0
"""For any wait. A start takes half a minute, or several minutes on a busy machine."""
EXIT_TIMEOUT_S = 20.0
"""For the last processes of a start, after its command has ended."""
MAX_STARTS = 4


class FaultMissed(RuntimeError):
    """The run did not reach the moment of the fault; the message names it."""


@dataclass
class Start:
    """One start of the command. allowed_statuses: those that it may end with."""

    process: subprocess.Popen[bytes]
    family: ProcessFamily
    monitor: LeakMonitor
    console: Path
    started_at: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    status: int | None = None
    allowed_statuses: tuple[int, ...] = ()


class Trial:
    """A run; see the module's docstring.

    Args:
        environment: variables in addition to those of this process.
        step_seconds: duration of a step in an undisturbed run.
        shared: folders that remain for other runs.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        assets: Path,
        seed: int,
        environment: Mapping[str, str],
        step_seconds: float = 1.0,
        shared: Sequence[Path] = (),
    ) -> None:
        self.name, self.folder, self.step_seconds, self.shared = name, folder, step_seconds, shared
        self.draw = random.Random(f"{seed} {name}")
        self.mark = secrets.token_hex(8)
        self.secrets = {name: f"canary-{secrets.token_hex(12)}" for name in SECRETS}
        self.environment = dict(environment)
        self.overrides: list[str] = []
        self.moment = ""
        self.starts: list[Start] = []
        self.problems: list[str] = []
        self.judge: MisbehavingJudge | None = None
        self.mounts: list[Path] = []
        self.torn: set[str] = set()
        self.temporary = Path(tempfile.mkdtemp(prefix="chaos-"))
        shutil.copytree(assets, self.assets)

    # ---- places ------------------------------------------------------------------------------------------------

    @property
    def assets(self) -> Path:
        return self.folder / "assets"

    @property
    def output(self) -> Path:
        return self.folder / "run"

    @property
    def checkpoints(self) -> Path:
        return self.output / "checkpoints"

    def write_user_files(self) -> None:
        """Create the user's files before the run starts."""
        for file in (self.folder / name for name in USER_FILES):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(USER_FILE_TEXT)

    # ---- starts ------------------------------------------------------------------------------------------------

    @property
    def last(self) -> Start:
        return self.starts[-1]

    @property
    def statuses(self) -> list[int | None]:
        return [start.status for start in self.starts]

    def command(self) -> list[str]:
        overrides = small_run.run_overrides(self.assets, self.output)
        return [sys.executable, "-m", "recipe.longrl.main", *overrides, *self.overrides]

    def spawn(self, console: Path) -> subprocess.Popen[bytes]:
        """Start the command as a user would, in a new process group."""
        inherited = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "PYTHONPATH")}
        paths = [str(SCRIPTS), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables = {MARK: self.mark, "TMPDIR": str(self.temporary), "PYTHONPATH": os.pathsep.join(paths)}
        variables |= {"OMP_NUM_THREADS": "1", "LONGRL_FORWARD_ENV": "AWS_SECRET_ACCESS_KEY"}
        # Do not join a Ray cluster that runs on this machine.
        variables["RAY_ADDRESS"] = "local"
        environment = {**inherited, **variables, **self.secrets, **self.environment}
        with console.open("wb") as log:
            return subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )

    def start(self) -> None:
        if not self.starts:
            self.write_user_files()
        console, now = self.folder / f"console-{len(self.starts) + 1}.txt", time.time()
        process = self.spawn(console)
        family = ProcessFamily(process.pid, self.mark)
        monitor = LeakMonitor(family, now, self.secrets, [self.folder, self.temporary, *self.shared])
        monitor.__enter__()
        self.starts.append(Start(process, family, monitor, console))

    def end(self, allowed_statuses: tuple[int, ...]) -> None:
        """Wait for the last start to end. A timeout is recorded as a problem."""
        start = self.last
        start.allowed_statuses = allowed_statuses
        try:
            start.status = start.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.problems.append(f"start {len(self.starts)} did not end within {TIMEOUT_S:.0f} s")
            start.family.kill()
            start.status = start.process.wait()
        start.seconds = time.monotonic() - start.started_at
        start.monitor.__exit__(None, None, None)

    def wait_until_gone(self) -> list[str]:
        """Processes that still run although every start has ended. They are killed."""
        deadline = time.monotonic() + EXIT_TIMEOUT_S
        while (
            survivors := [p for start in self.starts for p in start.family.find_survivors()]
        ) and time.monotonic() < deadline:
            time.sleep(0.2)
        lines = [f"{process.pid} {process.name()}" for process in survivors]
        for start in self.starts:
            start.family.kill()
        return lines

    def close(self) -> None:
        """End remaining processes, and remove what is outside the run's folder."""
        for start in self.starts:
            start.family.kill()
            if start.process.poll() is None:
                start.process.wait()
            start.monitor.__exit__(None, None, None)
        if self.judge is not None:
            self.judge.close()
        while self.mounts:
            subprocess.run(["umount", str(self.mounts.pop())], check=True)
        shutil.rmtree(self.temporary, ignore_errors=True)

    # ---- progress ---------------------------------------------------------------------------------------

    @property
    def console(self) -> str:
        """The output of all starts."""
        return "".join(start.console.read_text(errors="replace") for start in self.starts)

    def steps_done(self) -> list[int]:
        """Training steps in metrics.jsonl, in their order."""
        return [row["step"] for row in read_rows(self.output / "metrics.jsonl") if row.get("split") == "train"]

    def wait_until(self, reached: Callable[[], object], what: str, every_s: float = 0.05) -> None:
        """Poll a condition during the last start. Raises FaultMissed if the start ends before, or after TIMEOUT_S."""
        deadline = time.monotonic() + TIMEOUT_S
        while not reached():
            if self.last.process.poll() is not None:
                raise FaultMissed(f"the run ended with {self.last.process.returncode} before {what}")
            if time.monotonic() > deadline:
                raise FaultMissed(f"no {what} within {TIMEOUT_S:.0f} s")
            time.sleep(every_s)

    def complete_checkpoints(self) -> list[Path]:
        """Complete checkpoints, the newest last."""
        manifests = self.checkpoints.glob(f"global_step_*/{MANIFEST}")
        return sorted((path.parent for path in manifests), key=lambda folder: int(folder.name.rpartition("_")[2]))


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a log that may be being written. Lines that are not a JSON object are skipped."""
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row
