"""The first signal leaves a note for the trainer, the second one ends the process."""

import signal
import subprocess
import sys
import textwrap

import pytest
from verl_longrl.trainer.interruption import STOP_FILE

from recipe.longrl.signals import Stoppable

PROGRAM = """
import sys, time
from pathlib import Path
from recipe.longrl.signals import handle
handle(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    time.sleep(0.1)
"""


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGUSR1])
def test_first_asks_second_ends(tmp_path, first):
    stop = tmp_path / STOP_FILE
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(stop)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(first)
        line = process.stderr.readline()
        assert line == f"{first.name}: the run will save a checkpoint and end (once more: at once)\n"
        assert stop.read_text() == first.name
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM


def test_handled_from_when_the_runner_is_made(tmp_path):
    class Runner:
        def options(self, **options):
            return self

        def remote(self):
            return signal.getsignal(signal.SIGUSR1)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        stoppable = Stoppable(Runner(), tmp_path / STOP_FILE).options(num_gpus=0)
        assert signal.getsignal(signal.SIGUSR1) == before[signal.SIGUSR1]
        assert stoppable.remote() != before[signal.SIGUSR1]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
