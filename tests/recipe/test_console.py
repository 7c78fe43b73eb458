"""The terminal shows marked lines, the log has all lines, and a failure prints the end of the log."""

import logging
import tracemalloc
from pathlib import Path

import pytest

from recipe.longrl.console import log_output


def test_marked_lines_reach_the_terminal(tmp_path: Path, capsys):
    with log_output(tmp_path / "train.log"):
        print("\x1b[36m(LongRLTaskRunner pid=12)\x1b[0m longrl: step 1/2")
        print("(vLLMHttpServer pid=13, ip=10.0.0.1) INFO noise")
        print("longrl: of this process")
    shown = capsys.readouterr().out.splitlines()
    assert shown[1:] == ["step 1/2", "of this process"]
    assert "noise" in (tmp_path / "train.log").read_text()


def test_rays_own_logger_goes_to_the_log(tmp_path: Path, capsys):
    logger, handler = logging.getLogger("ray"), logging.StreamHandler()  # as Ray makes one when it is imported
    logger.addHandler(handler)
    try:
        with log_output(tmp_path / "train.log"):
            logger.warning("authentication is enabled")
        logger.warning("afterwards")
    finally:
        logger.removeHandler(handler)
    assert "authentication is enabled" in (tmp_path / "train.log").read_text()
    shown = capsys.readouterr().err
    assert "authentication is enabled" not in shown
    assert "afterwards" in shown


def test_failure_shows_the_end_of_the_log(tmp_path: Path, capsys):
    def train() -> None:
        with log_output(tmp_path / "train.log"):
            print("the cause of it all")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train()
    assert "the cause of it all" in capsys.readouterr().err


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path, capsys):
    log = tmp_path / "train.log"
    log.write_text("an earlier start\n" * 1_000_000)

    def train() -> None:
        with log_output(log):
            raise RuntimeError

    tracemalloc.start()
    try:
        with pytest.raises(RuntimeError):
            train()
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert len(capsys.readouterr().err.splitlines()) == 25 + 2


def test_verbose_shows_everything(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setenv("LONGRL_VERBOSE", "1")
    with log_output(tmp_path / "train.log"):
        print("noise")
    assert "noise" in capsys.readouterr().out


def test_a_full_disk_costs_lines_of_the_log_alone(tmp_path: Path, capsys):
    log = tmp_path / "train.log"
    log.symlink_to("/dev/full")
    with log_output(log):
        print("lost")
        print("longrl: step 1/2")
    shown = capsys.readouterr()
    assert shown.out.splitlines()[1:] == ["step 1/2"]
    assert shown.err == f"{log}: No space left on device: log lines are dropped\n"
