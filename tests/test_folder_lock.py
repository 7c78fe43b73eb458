"""One process at a time works in a folder: a second is refused while the first lives, and takes over afterwards."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from verl_longrl import folder_lock
from verl_longrl.folder_lock import NAME, Claim, FolderInUse, FolderTakenOver, Owner, find_holder, hold_folders

HOLDER = Path(__file__).parent / "support" / "lock_holder.py"


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """A beat of 0.1 s."""
    monkeypatch.setattr(folder_lock, "BEAT_S", 0.1)
    monkeypatch.setattr(folder_lock, "LOOK_S", 0.02)


@pytest.fixture
def other() -> Iterator:
    """other(folder) -> a process that holds it, ended with the test."""
    started = []

    def start(*folders: Path) -> subprocess.Popen[str]:
        command = [sys.executable, str(HOLDER), NAME, *map(str, folders)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def locks(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(f"{NAME}*"))


def elsewhere(folder: Path, number: int = 1, beats: int = 7) -> Path:
    """The lock of a process on another machine."""
    owner = dataclasses.replace(Owner.this_process(), id="0123", host="node7", kernel="another", slurm_job="88")
    folder.mkdir(exist_ok=True)
    lock = folder / f"{NAME}-{number}"
    lock.write_text(f"{json.dumps(dataclasses.asdict(owner))}\n{beats:012}\n")
    return lock


def test_a_living_owner_on_this_machine_is_named_at_once(tmp_path: Path, other):
    process = other(tmp_path)
    began = time.monotonic()
    with (
        pytest.raises(FolderInUse, match=rf"{tmp_path} is in use by process {process.pid} on "),
        hold_folders([tmp_path]),
    ):
        pass
    assert time.monotonic() - began < folder_lock.BEAT_S
    assert locks(tmp_path) == [f"{NAME}-1"]
    owner = find_holder(tmp_path)
    assert owner is not None
    assert (owner.pid, owner.lives(), owner.is_this_process()) == (process.pid, True, False)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_owner_on_this_machine_is_taken_over_at_once(tmp_path: Path, other, number: int, capsys):
    process = other(tmp_path)
    process.send_signal(number)  # not waited for: a zombie is dead, too
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert find_holder(tmp_path) is None
    with hold_folders([tmp_path]):
        assert locks(tmp_path) == [f"{NAME}-2"]
    assert locks(tmp_path) == []
    assert capsys.readouterr().err == ""


def test_a_reused_pid_is_not_the_owner(tmp_path: Path):
    lock = elsewhere(tmp_path)
    owner = dataclasses.asdict(dataclasses.replace(Owner.this_process(), started="1"))
    lock.write_text(f"{json.dumps(owner)}\n{7:012}\n")
    with hold_folders([tmp_path]):
        assert locks(tmp_path) == [f"{NAME}-2"]


def test_a_frozen_owner_on_this_machine_keeps_its_lock(tmp_path: Path, other):
    process = other(tmp_path)
    process.send_signal(signal.SIGSTOP)
    time.sleep(folder_lock.MISSED * folder_lock.BEAT_S)
    with pytest.raises(FolderInUse), hold_folders([tmp_path]):
        pass


def test_a_beating_owner_on_another_machine_keeps_its_lock(tmp_path: Path, capsys):
    lock = elsewhere(tmp_path)
    timer = threading.Timer(0.1, lambda: elsewhere(tmp_path, beats=8))
    timer.start()
    with pytest.raises(FolderInUse, match=r"process .* on node7, Slurm job 88, since "), hold_folders([tmp_path]):
        pass
    assert f"{tmp_path} is held by process" in capsys.readouterr().err
    assert locks(tmp_path) == [lock.name]


def test_an_owner_on_another_machine_that_misses_its_beats_is_taken_over(tmp_path: Path):
    """The times of the file do not matter: clocks differ."""
    lock = elsewhere(tmp_path)
    os.utime(lock, (time.time() + 9999,) * 2)
    assert Claim(tmp_path).require() is None
    began = time.monotonic()
    with hold_folders([tmp_path]):
        assert time.monotonic() - began >= folder_lock.MISSED * folder_lock.BEAT_S
        assert locks(tmp_path) == [f"{NAME}-2"]


def test_waiting_ends_when_the_owner_ends(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(folder_lock, "BEAT_S", 20.0)
    threading.Timer(0.1, elsewhere(tmp_path).unlink).start()
    began = time.monotonic()
    with hold_folders([tmp_path]):
        assert time.monotonic() - began < 10


def test_one_of_many_processes_takes_over_a_dead_lock(tmp_path: Path):
    """Threads, whose locks differ like those of processes."""
    for round_ in range(5):
        folder = tmp_path / str(round_)
        elsewhere(folder)
        inside, most, lock = 0, [], threading.Lock()

        def start(folder: Path = folder, most: list = most, lock: threading.Lock = lock) -> bool:
            nonlocal inside
            try:
                with hold_folders([folder]):
                    with lock:
                        inside += 1
                        most.append(inside)
                    time.sleep(0.2)
                    with lock:
                        inside -= 1
            except FolderInUse:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            won = [pool.submit(start) for _ in range(4)]
        assert sum(future.result() for future in won) == 1
        assert most == [1]
        assert locks(folder) == []


def test_a_slow_process_steps_back_from_newer_locks(tmp_path: Path, monkeypatch):
    """Between its look and its own lock, another process took over and ended, and a third one began with number 1."""
    elsewhere(tmp_path)
    judged = folder_lock._require_dead

    def slow(path: Path, content: bytes) -> None:
        monkeypatch.setattr(folder_lock, "_require_dead", judged)
        judged(path, content)
        third = Owner.this_process()
        path.write_text(f"{json.dumps(dataclasses.asdict(third))}\n{1:012}\n")

    monkeypatch.setattr(folder_lock, "_require_dead", slow)
    with pytest.raises(FolderInUse), hold_folders([tmp_path]):
        pass
    assert locks(tmp_path) == [f"{NAME}-1"]


def test_a_frozen_owner_learns_that_it_was_taken_over(tmp_path: Path):
    heard = []
    with hold_folders([tmp_path], on_taken_over=heard.append):
        claim = Claim(tmp_path)
        claim.require()
        (tmp_path / f"{NAME}-1").unlink()
        elsewhere(tmp_path, 2)
        with pytest.raises(FolderTakenOver, match=r"was taken over by process .* on node7"):
            claim.require()
        deadline = time.monotonic() + 5
        while not heard and time.monotonic() < deadline:
            time.sleep(0.02)
    assert "taken over by process" in heard[0]
    assert locks(tmp_path) == [f"{NAME}-2"], "the successor's is not removed"


def test_a_process_that_lost_its_lock_ends(tmp_path: Path):
    script = (
        "import sys, time; from pathlib import Path; from verl_longrl import folder_lock\n"
        "folder_lock.BEAT_S = 0.1\n"
        "with folder_lock.hold_folders([Path(sys.argv[1])]):\n"
        "    next(Path(sys.argv[1]).glob('.lock-*')).unlink()\n"
        "    time.sleep(60)\n"
        "    print('written after all')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (folder_lock.TAKEN_OVER, "")
    assert f"{tmp_path} was taken over by another process" in done.stderr


def test_the_heartbeat_counts_up(tmp_path: Path):
    with hold_folders([tmp_path]):
        before = (tmp_path / f"{NAME}-1").read_bytes()
        time.sleep(4 * folder_lock.BEAT_S)
        after = (tmp_path / f"{NAME}-1").read_bytes()
    assert before != after
    assert len(before) == len(after)


def test_created_folders_that_stay_empty_are_removed(tmp_path: Path):
    with pytest.raises(KeyError), hold_folders([tmp_path / "a" / "b", tmp_path / "a" / "b" / "c"]):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with hold_folders([tmp_path / "a" / "b"]):
        (tmp_path / "a" / "kept").write_text("")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept"]


def test_a_folder_under_two_names_is_locked_once(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    with (
        hold_folders([tmp_path / "run", tmp_path / "link"]),
        pytest.raises(FolderInUse),
        hold_folders([tmp_path / "link"]),
    ):
        pass


def test_a_refused_start_locks_nothing(tmp_path: Path, other):
    other(tmp_path / "checkpoints")
    with pytest.raises(FolderInUse), hold_folders([tmp_path / "run", tmp_path / "checkpoints"]):
        pass
    assert not (tmp_path / "run").exists()


def test_on_a_full_disk_the_owner_is_written_when_there_is_space(tmp_path: Path, monkeypatch, capsys):
    beat, full = folder_lock._Lock.beat, True

    def refused(self) -> None:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        beat(self)

    monkeypatch.setattr(folder_lock._Lock, "beat", refused)
    owner = dataclasses.asdict(dataclasses.replace(Owner.this_process(), started="1"))
    (tmp_path / f"{NAME}-1").write_text(f"{json.dumps(owner)}\n{7:012}\n")  # of one that was killed
    with hold_folders([tmp_path]):
        assert locks(tmp_path) == [f"{NAME}-2"]
        assert "No space left on device" in capsys.readouterr().err
        with (
            pytest.raises(OSError, match="No space"),
            hold_folders([tmp_path]),
        ):  # no owner, no beat, and no room for another's
            pass
        full = False
        time.sleep(3 * folder_lock.BEAT_S)
        owner = find_holder(tmp_path)
        assert owner is not None
        assert owner.is_this_process()
    assert locks(tmp_path) == []
