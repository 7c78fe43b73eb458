"""Progress in a log: a line now and then, with rate and what is left; nothing of it goes to stdout."""

import re

from verl_longrl.data import progress as module
from verl_longrl.data.progress import progress_bar


def lines(capsys):
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()


def test_a_log_gets_a_line_now_and_then(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with progress_bar("judge", 20, "documents", start=4) as advance:
        for _ in range(8):
            now[0] += 10
            advance(1, "7 requests")
    assert lines(capsys) == [
        "judge: 8 of 20, 120 s left, 0.1 documents/s, 7 requests",
        "judge: 12 of 20, 80 s left, 0.1 documents/s, 7 requests",
    ]


def test_without_a_total_nothing_is_said_about_what_is_left(capsys, monkeypatch):
    monkeypatch.setattr(module, "LOG_EVERY_S", -1.0)
    with progress_bar("ingest", None, "documents") as advance:
        advance(3)
    assert re.fullmatch(r"ingest: 3, [0-9.e+]+ documents/s", *lines(capsys))


def test_on_a_terminal_it_is_a_bar(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("embed", 2, "parts") as advance:
        advance(2, "done")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", "\n".join(lines(capsys)))
    assert "embed" in shown
    assert "2/2" in shown
    assert "parts/s" in shown
