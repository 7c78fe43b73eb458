"""Actions that disturb a run or change its files."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from faults import moments
from faults.misbehaving_judge import MisbehavingJudge
from faults.nan_injection import UPDATE_VARIABLE
from faults.trial import FaultMissed, Trial

PATIENCE_S = 40
"""How long the run waits for an unavailable judge."""
Action = Callable[[Trial], None]
BACKUP_SUFFIX = ".before"


# ---- processes ----------------------------------------------------------------------------------------------------


def kill(role: str) -> Action:
    """Kill a process of this kind with -9."""

    def action(trial: Trial) -> None:
        _find_process(trial, role).kill()

    return action


def _find_process(trial: Trial, role: str) -> psutil.Process:
    process = trial.last.family.of_role(role)
    if process is None:
        raise FaultMissed(f"there is no {role}")
    return process


def kill_driver(trial: Trial) -> None:
    """Kill the command with -9."""
    trial.last.process.kill()


def kill_all(trial: Trial) -> None:
    """Kill all processes at once with -9, as if the machine failed or a scheduler ended the job."""
    trial.last.family.kill()


def terminate(trial: Trial) -> None:
    """Send SIGTERM to the command."""
    trial.last.process.send_signal(signal.SIGTERM)


def terminate_twice(trial: Trial) -> None:
    """Send SIGTERM twice within a second."""
    terminate(trial)
    time.sleep(trial.draw.uniform(0.05, 1))
    terminate(trial)


def stop_then_terminate(trial: Trial) -> None:
    """`touch stop` in the run's folder, and send SIGTERM within a second."""
    (trial.output / "stop").touch()
    time.sleep(trial.draw.uniform(0.05, 1))
    terminate(trial)


def hang_then_kill(role: str) -> Action:
    """Send SIGSTOP, and kill with -9 once the watchdog has reported the hang."""

    def action(trial: Trial) -> None:
        process = _find_process(trial, role)
        process.suspend()
        trial.wait_until(lambda: moments.console_matches("no progress for")(trial), "the watchdog's report")
        process.kill()

    return action


def start_again(trial: Trial) -> None:
    """Start the same command while it is running."""
    console = trial.folder / "console-second.txt"
    status = trial.spawn(console).wait()
    if status != 2:
        trial.problems.append(f"the second start ended with {status}, expected 2; see {console}")


# ---- files --------------------------------------------------------------------------------------------------------


def flip_bit(name: str) -> Action:
    """Flip one bit of a file in the newest checkpoint."""

    def action(trial: Trial) -> None:
        path = _in_newest(trial, name)
        position, bit = trial.draw.randrange(path.stat().st_size), trial.draw.randrange(8)
        with path.open("r+b") as file:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ 1 << bit]))
        trial.moment += f"; bit {bit} of byte {position} of {path.parent.name}/{path.name}"

    return action


def truncate_file(name: str) -> Action:
    """Cut off the end of a file in the newest checkpoint."""

    def action(trial: Trial) -> None:
        path = _in_newest(trial, name)
        size = trial.draw.randrange(path.stat().st_size)
        os.truncate(path, size)
        trial.moment += f"; {path.name} truncated to {size} bytes"

    return action


def overwrite_file(name: str, text: str) -> Action:
    """Replace the text of a file in the newest checkpoint."""
    return lambda trial: _in_newest(trial, name).write_text(text)


def _in_newest(trial: Trial, pattern: str) -> Path:
    complete = trial.complete_checkpoints()
    if not complete:
        raise FaultMissed("there is no complete checkpoint")
    return next(complete[-1].glob(pattern))


def tear_logs(trial: Trial) -> None:
    """Insert half a line, NUL bytes and invalid UTF-8 into three logs, and append half a line."""
    for name in ("metrics.jsonl", "rollouts/index.jsonl", "rollouts/prompts.jsonl"):
        path = trial.output / name
        lines = path.read_bytes().splitlines(keepends=True)
        at, half = trial.draw.randrange(len(lines) + 1), lines[0][: len(lines[0]) // 2]
        torn = [half + b"\n", bytes(512) + b"\n", b'{"split": "\xff\xfe"}\n']
        path.write_bytes(b"".join([*lines[:at], *torn, *lines[at:], half]))
        trial.torn.add(name)


def change_data(trial: Trial) -> None:
    """Change rows of a data file without changing its path, size and time."""
    path = trial.assets / "train.parquet"
    before, rows = path.read_bytes(), pq.read_table(path)
    shutil.copy2(path, path.with_name(f"{path.name}{BACKUP_SUFFIX}"))
    stat = path.stat()
    for _ in range(5000):
        position = trial.draw.randrange(len(before))
        path.write_bytes(before[:position] + bytes([before[position] ^ 1]) + before[position + 1 :])
        try:
            changed = pq.read_table(path)
            usable = changed.schema == rows.schema and not changed.equals(rows)
        except Exception:  # noqa: BLE001  pyarrow raises many types for a damaged file
            usable = False
        if usable:
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            return
    raise FaultMissed("no change of one byte left the data file readable")


def change_template(trial: Trial) -> None:
    """Change the chat template without changing its length."""
    path = trial.assets / "model" / "chat_template.jinja"
    shutil.copy2(path, path.with_name(f"{path.name}{BACKUP_SUFFIX}"))
    path.write_text(path.read_text().replace("\n", " "))


def restore_files(trial: Trial) -> None:
    """Restore changed files."""
    for backup in list(trial.assets.rglob(f"*{BACKUP_SUFFIX}")):
        os.replace(backup, backup.with_name(backup.name.removesuffix(BACKUP_SUFFIX)))


def move_folder(trial: Trial) -> None:
    """Move data, model and run to another folder."""
    target = trial.folder.with_name(f"{trial.folder.name}-moved")
    trial.folder.rename(target)
    for start in trial.starts:
        start.console = target / start.console.name
    trial.folder = target


FOREIGN_CHECKPOINT = "global_step_40"


def plant_checkpoint(trial: Trial) -> None:
    """Put another program's checkpoint into the run's checkpoint folder."""
    folder = trial.checkpoints / FOREIGN_CHECKPOINT / "actor"
    folder.mkdir(parents=True)
    (folder / "model_world_size_1_rank_0.pt").write_bytes(trial.draw.randbytes(1000))
    (trial.checkpoints / "latest_checkpointed_iteration.txt").write_text("40")


def remove_planted_checkpoint(trial: Trial) -> None:
    """Move the other program's checkpoint elsewhere, and check that it was not changed."""
    folder = trial.checkpoints / FOREIGN_CHECKPOINT
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    if files != [Path("actor/model_world_size_1_rank_0.pt")]:
        trial.problems.append(f"{folder} belongs to another program, but now has {files}")
    folder.rename(trial.folder / "elsewhere")
    (trial.checkpoints / "latest_checkpointed_iteration.txt").unlink(missing_ok=True)


# ---- disks --------------------------------------------------------------------------------------------------------

DISK_BYTES = 512 << 20


def mount_small_disk(name: str) -> Action:
    """Mount a separate small disk at a folder of the run."""

    def action(trial: Trial) -> None:
        folder = trial.output / name
        folder.mkdir(parents=True, exist_ok=True)
        _mount("-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "longrl-chaos", str(folder))
        trial.mounts.append(folder)

    return action


def fill_disk(trial: Trial) -> None:
    """Shrink the disk, so that it is full."""
    (folder,) = trial.mounts
    used = shutil.disk_usage(folder).used
    _mount("-o", f"remount,size={used + 4096}", str(folder))


def free_disk(trial: Trial) -> None:
    """Give the disk its space back."""
    (folder,) = trial.mounts
    _mount("-o", f"remount,size={DISK_BYTES}", str(folder))


def mount_problem() -> str | None:
    """Why a disk cannot be mounted on this machine, or None."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _mount("-t", "tmpfs", "-o", "size=1m", "longrl-chaos", folder)
        except (subprocess.CalledProcessError, FileNotFoundError):
            return "no permission to mount a disk (needs root)"
        subprocess.run(["umount", folder], check=True)
    return None


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


# ---- the judge ----------------------------------------------------------------------------------------------------


def use_judge(trial: Trial) -> None:
    """Have answers judged by a server of the campaign."""
    trial.judge = MisbehavingJudge()
    judge = {"endpoints": f"[{trial.judge.url}]", "attempts": 1, "timeout_s": 10, "patience_minutes": PATIENCE_S / 60}
    trial.overrides += ["longrl.reward.answer.by=judge", *(f"longrl.judge.{key}={judge[key]}" for key in judge)]


def set_judge(behaviour: str) -> Action:
    """Set the judge's behaviour from now on."""

    def action(trial: Trial) -> None:
        assert trial.judge is not None
        trial.judge.behaviour = behaviour

    return action


def silence_judge_for_a_while(trial: Trial) -> None:
    """Do not respond until the run reports that it is waiting."""
    set_judge("silent")(trial)
    trial.wait_until(lambda: moments.console_matches("the judge is away")(trial), "the report that the judge is away")
    set_judge("honest")(trial)


# ---- numbers ------------------------------------------------------------------------------------------------------


def inject_nan(trial: Trial) -> None:
    """Set a weight to NaN after one of the first updates (`nan_injection.py`)."""
    trial.environment[UPDATE_VARIABLE] = str(trial.draw.randint(1, moments.LAST))
    trial.moment = f"after update {trial.environment[UPDATE_VARIABLE]}"


def stop_injecting_nan(trial: Trial) -> None:
    """Undo inject_nan for later starts."""
    del trial.environment[UPDATE_VARIABLE]
