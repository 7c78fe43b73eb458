"""The first signal writes the stop file for the trainer, the second one ends the process."""

import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager

import pytest
from verl_longrl.trainer.interruption import STOP_FILE

from recipe.longrl.signals import StoppableRunner

PROGRAM = """
import sys, time
from pathlib import Path
from recipe.longrl.signals import save_on_signal
save_on_signal(Path(sys.argv[1]))
exec(sys.argv[2])
print("ready", flush=True)
while True:
    time.sleep(0.1)
"""


@contextmanager
def running(stop, more=""):
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(stop), more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGUSR1])
def test_first_asks_second_ends(tmp_path, first):
    stop = tmp_path / STOP_FILE
    with running(stop) as process:
        process.send_signal(first)
        line = process.stderr.readline()
        assert line == f"{first.name}: saving a checkpoint, then exiting (send the signal again to exit now)\n"
        assert stop.read_text() == first.name
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM


def test_a_stop_file_made_by_hand_is_not_a_first_signal(tmp_path):
    stop = tmp_path / STOP_FILE
    stop.touch()  # as a person does, before Slurm's time limit comes
    with running(stop) as process:
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline().startswith("SIGTERM: saving a checkpoint, then exiting")
        assert process.poll() is None
        process.kill()


def test_without_the_runs_folder_it_ends_at_once(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with running(folder / STOP_FILE) as process:
        folder.rmdir()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
        said = process.stderr.read()
        assert said.startswith("SIGTERM: exiting now, because the trainer cannot be told to save")
        assert "Traceback" not in said


def test_after_the_training_each_signal_ends_at_once(tmp_path):
    with running(
        tmp_path / STOP_FILE, "from recipe.longrl.signals import exit_on_signals; exit_on_signals()"
    ) as process:
        process.send_signal(signal.SIGUSR1)
        assert process.wait(30) == 128 + signal.SIGUSR1
        assert process.stderr.read() == ""
    assert not (tmp_path / STOP_FILE).exists()


def test_handled_from_when_the_runner_is_made(tmp_path):
    class Runner:
        def options(self, **options):
            return self

        def remote(self):
            return signal.getsignal(signal.SIGUSR1)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        stoppable = StoppableRunner(Runner(), tmp_path / STOP_FILE).options(num_gpus=0)
        assert signal.getsignal(signal.SIGUSR1) == before[signal.SIGUSR1]
        assert stoppable.remote() != before[signal.SIGUSR1]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
