"""Real Ray, real verl, real vLLM on logical CPU devices; only the model is tiny."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from verl_longrl.data.jsonl import read_jsonl

from recipe.longrl.demo import run as demo

SCRIPT = Path(__file__).parents[2] / "run_longrl.sh"


class Run:
    """One training run in a folder of its own, started from the command line as a user does."""

    def __init__(self, assets: Path, folder: Path) -> None:
        self.assets, self.folder = assets, folder

    @property
    def output(self) -> Path:
        return self.folder / "run"

    def start(self, *overrides: str, **environment: str) -> subprocess.Popen[str]:
        """Start `python -m recipe.longrl.main` on the demo's data, in a process group of its own."""
        command = [sys.executable, "-m", "recipe.longrl.main", *demo.overrides(self.assets)]
        return self._start(command, overrides, environment)

    def start_script(self, train: Path | list[str], val: Path | list[str], *overrides: str) -> subprocess.Popen[str]:
        """Start `bash run_longrl.sh` on these files, in a process group of its own."""
        environment = {"TRAIN_FILES": str(train), "VAL_FILES": str(val), "MODEL_PATH": str(self.assets / "model")}
        return self._start(["bash", str(SCRIPT), "model=demo"], overrides, {**environment, "LONGRL_VENV": sys.prefix})

    def start_job(self, *overrides: str, **environment: str) -> subprocess.Popen[str]:
        """Start `bash scripts/ray/submit.sh` on the demo's data, in a process group of its own."""
        command = ["bash", str(SCRIPT.parent / "scripts" / "ray" / "submit.sh"), *demo.overrides(self.assets)]
        return self._start(command, overrides, environment)

    def _start(self, command: list[str], overrides: Iterable[str], more: dict[str, str]) -> subprocess.Popen[str]:
        command = [*command, "hardware=cpu", f"longrl.output_dir={self.output}", "data.train_batch_size=4"]
        command += ["actor_rollout_ref.actor.ppo_mini_batch_size=4", "actor_rollout_ref.rollout.n=4"]
        command += ["data.max_response_length=32", *overrides]
        inherited = {key: os.environ[key] for key in os.environ.keys() - {"PYTHONDONTWRITEBYTECODE", "RAY_ADDRESS"}}
        environment = {**inherited, "OMP_NUM_THREADS": "1", **more}
        self.log = (self.folder / "console.txt").open("a")
        return subprocess.Popen(
            command, stdout=self.log, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
        )

    def submit(self, options: Iterable[str], *overrides: str, **environment: str) -> int:
        """Submit the demo's run with scripts/slurm/submit.sh; the number of the job."""
        command = ["bash", str(SCRIPT.parent / "scripts" / "slurm" / "submit.sh"), *options]
        process = self._start([*command, *demo.overrides(self.assets)], overrides, environment)
        assert self.finish(process, timeout_s=60) == 0, self.console
        return int(self.console.rpartition("submitted job ")[2].partition(";")[0])

    def finish(self, process: subprocess.Popen[str], timeout_s: float = 600) -> int:
        try:
            return process.wait(timeout_s)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    @property
    def console(self) -> str:
        return (self.folder / "console.txt").read_text()

    def rows(self, split: str) -> list[dict[str, Any]]:
        return [row for row in read_jsonl(self.output / "metrics.jsonl") if row["split"] == split]

    @property
    def steps(self) -> list[int]:
        """The training steps on record, in the order in which they were written."""
        return [row["step"] for row in self.rows("train")] if (self.output / "metrics.jsonl").exists() else []

    def checkpoint(self, step: int) -> dict[str, Any]:
        return json.loads((self.output / "checkpoints" / f"global_step_{step}" / "complete.json").read_text())

    def wait_for(self, path: Path, process: subprocess.Popen[str], timeout_s: float = 600) -> None:
        self.until(path.exists, str(path), process, timeout_s)

    def until(
        self, reached: Callable[[], object], what: str, process: subprocess.Popen[str], timeout_s: float = 600
    ) -> None:
        """Wait; fails early, with the console's end, when the run ends before `what` is reached."""
        deadline = time.monotonic() + timeout_s
        while not reached():
            assert process.poll() is None, f"the run ended without {what}:\n{self.console[-3000:]}"
            assert time.monotonic() < deadline, f"no {what} after {timeout_s} s:\n{self.console[-3000:]}"
            time.sleep(0.2)


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the campaign of faults trains on as well."""
    from faults.small_run import build_assets

    return build_assets(tmp_path_factory.mktemp("assets") / "demo")


@pytest.fixture
def run(assets: Path, tmp_path: Path) -> Run:
    return Run(assets, tmp_path)
