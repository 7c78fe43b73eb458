"""One run in a folder of its own, from its first start until the same command ends with 0.

FOLDER/assets/         the data and the model, a copy that a fault may change
FOLDER/run/            the run's output folder, and in it files that are not the run's
FOLDER/beside/         more of those
FOLDER/console-1.txt   what the first start printed
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

from faults import world
from faults.judge import Judge
from faults.processes import MARK, Family
from faults.witness import Witness

SCRIPTS = Path(__file__).resolve().parents[1]
SECRETS = (
    *("HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY", "LONGRL_JUDGE_API_KEY"),
    *("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD"),
)
"""Variables with a secret in them, which must be found nowhere."""
FOREIGN = ("beside/notes.txt", "run/notes/ideas.md", "run/checkpoints/best_so_far/weights.bin", "run/chunk/mine.jsonl")
"""Files of the user's, which no run may touch."""
FOREIGN_TEXT = "This is not the run's.\n"
WITHIN_S = 900.0
"""Whatever is waited for. A start takes half a minute, or several on a machine that is busy."""
GONE_WITHIN_S = 20.0
"""After a start has ended, for the last of its processes."""
STARTS = 4


class Missed(RuntimeError):
    """The run did not come to where the fault was to happen; the message says what was waited for."""


@dataclass
class Start:
    """One start of the command. allowed: the statuses that it may end with."""

    process: subprocess.Popen[bytes]
    family: Family
    witness: Witness
    console: Path
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    status: int | None = None
    allowed: tuple[int, ...] = ()


class Trial:
    """See the module's docstring. Variables of `environment` are set above this process's own. step_seconds: of an
    undisturbed run. shared: folders for what is to stay for other runs."""

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
        self.judge: Judge | None = None
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

    def write_foreign(self) -> None:
        """The user's own files, before the run begins."""
        for file in (self.folder / name for name in FOREIGN):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(FOREIGN_TEXT)

    # ---- starts ------------------------------------------------------------------------------------------------

    @property
    def last(self) -> Start:
        return self.starts[-1]

    @property
    def statuses(self) -> list[int | None]:
        return [start.status for start in self.starts]

    def command(self) -> list[str]:
        own = world.overrides(self.assets, self.output)
        return [sys.executable, "-m", "recipe.longrl.main", *own, *self.overrides]

    def spawn(self, console: Path) -> subprocess.Popen[bytes]:
        """The command, as a user would start it, in a process group of its own."""
        inherited = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "PYTHONPATH")}
        paths = [str(SCRIPTS), *filter(None, [os.environ.get("PYTHONPATH")])]
        own = {MARK: self.mark, "TMPDIR": str(self.temporary), "PYTHONPATH": os.pathsep.join(paths)}
        own |= {"OMP_NUM_THREADS": "1", "LONGRL_FORWARD_ENV": "AWS_SECRET_ACCESS_KEY"}
        own["RAY_ADDRESS"] = "local"  # whatever else runs on this machine
        environment = {**inherited, **own, **self.secrets, **self.environment}
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
            self.write_foreign()
        console, now = self.folder / f"console-{len(self.starts) + 1}.txt", time.time()
        process = self.spawn(console)
        family = Family(process.pid, self.mark)
        witness = Witness(family, now, self.secrets, [self.folder, self.temporary, *self.shared])
        witness.__enter__()
        self.starts.append(Start(process, family, witness, console))

    def end(self, allowed: tuple[int, ...]) -> None:
        """Wait for the last start to end, and for its processes. What it must not do is noted as a problem."""
        start = self.last
        start.allowed = allowed
        try:
            start.status = start.process.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            self.problems.append(f"start {len(self.starts)} did not end within {WITHIN_S:.0f} s")
            start.family.kill()
            start.status = start.process.wait()
        start.seconds = time.monotonic() - start.began
        start.witness.__exit__(None, None, None)

    def wait_until_gone(self) -> list[str]:
        """Command lines of processes that stay although every start has ended; they are killed."""
        deadline = time.monotonic() + GONE_WITHIN_S
        while (left := [p for start in self.starts for p in start.family.left()]) and time.monotonic() < deadline:
            time.sleep(0.2)
        lines = [f"{process.pid} {process.name()}" for process in left]
        for start in self.starts:
            start.family.kill()
        return lines

    def close(self) -> None:
        """End what is left of the run, and remove what is outside of its folder."""
        for start in self.starts:
            start.family.kill()
            if start.process.poll() is None:
                start.process.wait()
            start.witness.__exit__(None, None, None)
        if self.judge is not None:
            self.judge.close()
        while self.mounts:
            subprocess.run(["umount", str(self.mounts.pop())], check=True)
        shutil.rmtree(self.temporary, ignore_errors=True)

    # ---- where it stands ---------------------------------------------------------------------------------------

    @property
    def console(self) -> str:
        """What all starts have printed."""
        return "".join(start.console.read_text(errors="replace") for start in self.starts)

    def steps_done(self) -> list[int]:
        """Training steps on record, in the order in which they were written."""
        return [row["step"] for row in rows(self.output / "metrics.jsonl") if row.get("split") == "train"]

    def until(self, reached: Callable[[], object], what: str, every_s: float = 0.05) -> None:
        """Wait for the last start to reach something. Raises Missed when it ends before."""
        deadline = time.monotonic() + WITHIN_S
        while not reached():
            if self.last.process.poll() is not None:
                raise Missed(f"the run ended with {self.last.process.returncode} before {what}")
            if time.monotonic() > deadline:
                raise Missed(f"no {what} within {WITHIN_S:.0f} s")
            time.sleep(every_s)

    def whole_checkpoints(self) -> list[Path]:
        """Newest last."""
        manifests = self.checkpoints.glob(f"global_step_*/{MANIFEST}")
        return sorted((path.parent for path in manifests), key=lambda folder: int(folder.name.rpartition("_")[2]))


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a log that is being written, without what is no row."""
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row
