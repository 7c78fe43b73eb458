"""What happens to a run, or to its files."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from faults import moments
from faults.judge import Judge
from faults.poison import AFTER
from faults.trial import Missed, Trial

PATIENCE_S = 40
"""Of the run with its judge."""
Action = Callable[[Trial], None]
BEFORE = ".before"
"""Ends the name of what a changed file was."""


# ---- processes ----------------------------------------------------------------------------------------------------


def kill(role: str) -> Action:
    """kill -9 of the process of a kind."""

    def action(trial: Trial) -> None:
        process = trial.last.family.of_role(role)
        if process is None:
            raise Missed(f"there is no {role}")
        process.kill()

    return action


def kill_driver(trial: Trial) -> None:
    """kill -9 of the command."""
    trial.last.process.kill()


def kill_all(trial: Trial) -> None:
    """kill -9 of everything at once, as when the machine fails or a scheduler ends the job."""
    trial.last.family.kill()


def terminate(trial: Trial) -> None:
    """SIGTERM."""
    trial.last.process.send_signal(signal.SIGTERM)


def terminate_twice(trial: Trial) -> None:
    """SIGTERM, and again before long."""
    terminate(trial)
    time.sleep(trial.draw.uniform(0.05, 1))
    terminate(trial)


def ask_then_terminate(trial: Trial) -> None:
    """`touch stop` in the run's folder, and SIGTERM before long."""
    (trial.output / "stop").touch()
    time.sleep(trial.draw.uniform(0.05, 1))
    terminate(trial)


def hang_then_kill(role: str) -> Action:
    """SIGSTOP, and kill -9 once the watchdog has said so."""

    def action(trial: Trial) -> None:
        process = trial.last.family.of_role(role)
        if process is None:
            raise Missed(f"there is no {role}")
        process.suspend()
        trial.until(lambda: moments.said("standing still for")(trial), "the watchdog's line")
        process.kill()

    return action


def start_a_second(trial: Trial) -> None:
    """The same command, while it runs already."""
    console = trial.folder / "console-second.txt"
    status = trial.spawn(console).wait()
    if status != 2:
        trial.problems.append(f"a second start ended with {status}, expected 2: {console}")


# ---- files --------------------------------------------------------------------------------------------------------


def flip_a_bit(name: str) -> Action:
    """One bit of a file in the newest checkpoint."""

    def action(trial: Trial) -> None:
        path = _in_newest(trial, name)
        place, bit = trial.draw.randrange(path.stat().st_size), trial.draw.randrange(8)
        with path.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1 << bit]))
        trial.moment += f"; bit {bit} of byte {place} of {path.parent.name}/{path.name}"

    return action


def cut(name: str) -> Action:
    """The end of a file in the newest checkpoint is missing."""

    def action(trial: Trial) -> None:
        path = _in_newest(trial, name)
        size = trial.draw.randrange(path.stat().st_size)
        os.truncate(path, size)
        trial.moment += f"; {path.name} cut to {size} bytes"

    return action


def overwrite(name: str, text: str) -> Action:
    """Other text in a file of the newest checkpoint."""
    return lambda trial: _in_newest(trial, name).write_text(text)


def _in_newest(trial: Trial, pattern: str) -> Path:
    whole = trial.whole_checkpoints()
    if not whole:
        raise Missed("there is no whole checkpoint")
    return next(whole[-1].glob(pattern))


def tear_logs(trial: Trial) -> None:
    """Half a line, NUL bytes and bad UTF-8 in the middle of two logs, and half a line at their ends."""
    for name in ("metrics.jsonl", "rollouts/prompts.jsonl"):
        path = trial.output / name
        lines = path.read_bytes().splitlines(keepends=True)
        at, half = trial.draw.randrange(len(lines) + 1), lines[0][: len(lines[0]) // 2]
        torn = [half + b"\n", bytes(512) + b"\n", b'{"split": "\xff\xfe"}\n']
        path.write_bytes(b"".join([*lines[:at], *torn, *lines[at:], half]))
        trial.torn.add(name)


def change_data(trial: Trial) -> None:
    """Other rows in a data file of the same path and size."""
    path = trial.assets / "train.parquet"
    before, rows = path.read_bytes(), pq.read_table(path)
    shutil.copy2(path, path.with_name(f"{path.name}{BEFORE}"))
    times = path.stat()
    for _ in range(5000):
        place = trial.draw.randrange(len(before))
        path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
        try:
            other = pq.read_table(path)
            readable = other.schema == rows.schema and not other.equals(rows)
        except Exception:  # noqa: BLE001  whatever pyarrow thinks of a file that no writer wrote
            readable = False
        if readable:
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            return
    raise Missed("no byte of the data file could be changed so that it stays readable")


def change_template(trial: Trial) -> None:
    """Another chat template of the same length."""
    path = trial.assets / "model" / "chat_template.jinja"
    shutil.copy2(path, path.with_name(f"{path.name}{BEFORE}"))
    path.write_text(path.read_text().replace("\n", " "))


def restore(trial: Trial) -> None:
    """What was changed is as before."""
    for kept in list(trial.assets.rglob(f"*{BEFORE}")):
        os.replace(kept, kept.with_name(kept.name.removesuffix(BEFORE)))


def move(trial: Trial) -> None:
    """Data, model and run in another place."""
    place = trial.folder.with_name(f"{trial.folder.name}-moved")
    trial.folder.rename(place)
    for start in trial.starts:
        start.console = place / start.console.name
    trial.folder = place


FOREIGN_CHECKPOINT = "global_step_40"


def plant_checkpoint(trial: Trial) -> None:
    """Another program's checkpoint in the run's folder for them."""
    folder = trial.checkpoints / FOREIGN_CHECKPOINT / "actor"
    folder.mkdir(parents=True)
    (folder / "model_world_size_1_rank_0.pt").write_bytes(trial.draw.randbytes(1000))
    (trial.checkpoints / "latest_checkpointed_iteration.txt").write_text("40")


def take_checkpoint_away(trial: Trial) -> None:
    """It is moved elsewhere by its owner, who finds it as it was."""
    folder = trial.checkpoints / FOREIGN_CHECKPOINT
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    if files != [Path("actor/model_world_size_1_rank_0.pt")]:
        trial.problems.append(f"{folder} is another program's, and has {files} now")
    folder.rename(trial.folder / "elsewhere")
    (trial.checkpoints / "latest_checkpointed_iteration.txt").unlink(missing_ok=True)


# ---- disks --------------------------------------------------------------------------------------------------------

ROOM = 512 << 20


def small_disk(name: str) -> Action:
    """A disk of its own for a folder of the run."""

    def action(trial: Trial) -> None:
        folder = trial.output / name
        folder.mkdir(parents=True, exist_ok=True)
        _mount("-t", "tmpfs", "-o", f"size={ROOM},mode=755", "longrl-chaos", str(folder))
        trial.mounts.append(folder)

    return action


def fill_disk(trial: Trial) -> None:
    """No room from now on."""
    (folder,) = trial.mounts
    used = shutil.disk_usage(folder).used
    _mount("-o", f"remount,size={used + 4096}", str(folder))


def free_disk(trial: Trial) -> None:
    """Room again."""
    (folder,) = trial.mounts
    _mount("-o", f"remount,size={ROOM}", str(folder))


def no_mounts() -> str | None:
    """Why a disk cannot be mounted here, or None."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _mount("-t", "tmpfs", "-o", "size=1m", "longrl-chaos", folder)
        except (subprocess.CalledProcessError, FileNotFoundError):
            return "no permission to mount a disk (root has it)"
        subprocess.run(["umount", folder], check=True)
    return None


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


# ---- the judge ----------------------------------------------------------------------------------------------------


def judged(trial: Trial) -> None:
    """Answers are judged by a server of the campaign's."""
    trial.judge = Judge()
    judge = {"endpoints": f"[{trial.judge.url}]", "attempts": 1, "timeout_s": 10, "patience_minutes": PATIENCE_S / 60}
    trial.overrides += ["longrl.reward.answer.by=judge", *(f"longrl.judge.{key}={judge[key]}" for key in judge)]


def judge_says(behaviour: str) -> Action:
    """From now on."""

    def action(trial: Trial) -> None:
        assert trial.judge is not None
        trial.judge.behaviour = behaviour

    return action


def judge_silent_for_a_while(trial: Trial) -> None:
    """Until the run has said that it waits."""
    judge_says("silent")(trial)
    trial.until(lambda: moments.said("the judge is away")(trial), "the line that the judge is away")
    judge_says("honest")(trial)


# ---- numbers ------------------------------------------------------------------------------------------------------


def poison(trial: Trial) -> None:
    """After one of the first updates, a weight is NaN (`poison.py`)."""
    trial.environment[AFTER] = str(trial.draw.randint(1, moments.LAST))
    trial.moment = f"after update {trial.environment[AFTER]}"


def cure(trial: Trial) -> None:
    """No more of that."""
    del trial.environment[AFTER]
