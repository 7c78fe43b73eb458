"""The path from a profile to tables on a real HTTP server, and what a kill leaves behind."""

import json
import multiprocessing
import os
import re
import signal
import sys

import pytest
from support import tiny_benchmark
from support.fake_openai_server import failure
from verl_longrl.rewards.isolation import cpu_deadline

from recipe.longrl.evaluation import log
from recipe.longrl.evaluation.errors import EvaluationError
from recipe.longrl.evaluation.report import write_report

SIX = ("sets.capitals.options.samples=6", "client.concurrency=2")
FILES = (*(f"capitals/{name}.json" for name in ("plan", "tables")), "capitals/scores.jsonl", "report.json", "report.md")


def refuse(countries):
    return lambda body, n: failure(400) if any(f"of {name}?" in str(body) for name in countries) else 0.0


def test_the_command_line_runs_scores_and_reports(evaluate, server, tmp_path):
    status, printed, _ = evaluate("run", tmp_path, *SIX, "--training-length", "150")
    assert status == 0
    assert "| capitals | tiny | published | 83.33 [" in printed
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page
    assert "training length" in page
    # It opens offline: every link is to the page itself, or holds its content.
    assert all(link.startswith(("#", "data:")) for link in re.findall(r"(?:src|href)=[\"']([^\"']+)", page))
    assert (tmp_path / "report.json").is_file()
    assert len(server.bodies) == 12


def test_sets_may_be_repeated_or_separated_by_commas(evaluate, tmp_path):
    for names in (["--sets", "cities", "--sets", "capitals"], ["--sets", "cities,capitals"]):
        status, _, problem = evaluate("plan", tmp_path, *names)
        assert (status, problem) == (2, "--sets = cities: profile tiny has no such set. Fix: capitals\n")
    assert evaluate("plan", tmp_path, "--sets", "capitals")[0] == 0


def test_rows_are_asked_and_scored_under_every_rule(measure, server, tmp_path):
    result = measure(tmp_path, *SIX)
    assert (result["planned"], result["scored"], result["cut"], result["failed"]) == (12, 12, 0, 0)
    assert result["headline"]["rule"] == "published"
    assert result["headline"]["mean"] == pytest.approx(10 / 12)
    assert result["curves"]["strict"]["points"][200]["mean"] == pytest.approx(5 / 6)
    assert {body["messages"][0]["content"][-40:] for body in server.bodies} == {
        f"What is the capital of {country}? Answer: the capital is"[-40:] for country in tiny_benchmark.CAPITALS
    }
    assert {body["seed"] for body in server.bodies} == {42}


def test_nothing_is_asked_twice_and_failures_are_asked_again(measure, server, tmp_path):
    server.behave = refuse(["Italy"])
    result = measure(tmp_path)
    assert (result["failed"], result["planned"], result["headline"]) == (2, 6, None)
    assert result["no_headline_because"] == "33.3% of the answers failed, more than 1.0%"
    assert result["rules"]["published"]["mean"] == pytest.approx(4 / 6)
    server.behave, asked = refuse([]), len(server.bodies)
    assert measure(tmp_path)["headline"]["mean"] == 1
    assert len(server.bodies) == asked + 2
    measure(tmp_path)
    assert len(server.bodies) == asked + 2


def test_repeats_have_their_own_seeds_and_are_counted(measure, server, tmp_path):
    server.behave = lambda body, n: tiny_benchmark.know(body) if body["seed"] == 42 else "Oslo"
    result = measure(tmp_path, "sets.capitals.repeats=2", "sets.capitals.sampling.temperature=0.5")
    repeats = result["repeats"]["published"]
    assert result["planned"] == 12
    assert (repeats["mean_at_k"], repeats["pass_at_k"], repeats["by_sample"]) == (0.5, 1.0, [1.0, 0.0])
    assert result["rules"]["published"]["clusters"] == 3


@pytest.mark.parametrize(
    "override",
    ["sets.capitals.sampling.temperature=0.7", "sets.capitals.options.samples=2", "seed=1", "model.revision=b"],
)
def test_answers_of_other_settings_are_never_mixed(measure, tmp_path, override):
    measure(tmp_path)
    with pytest.raises(EvaluationError, match=r"but its answers were made with .*Fix: name another --out"):
        measure(tmp_path, override)


def test_a_row_over_the_window_is_refused_before_anything_is_sent(measure, server, tmp_path):
    limit = "row France/200: prompt \\+ answer = [0-9]+ \\+ 16 tokens, window 150; 3 such rows in all. Fix: a larger"
    with pytest.raises(EvaluationError, match=limit):
        measure(tmp_path, window=150)
    assert server.bodies == []


@pytest.mark.parametrize(("policy", "asked"), [("skip", 3), ("middle", 6)])
def test_policies_for_rows_over_the_window(measure, server, tmp_path, policy, asked):
    result = measure(tmp_path, f"sets.capitals.over_window={policy}", window=150)
    over = result["over_window"]
    assert (over["policy"], over["share"], len(server.bodies)) == (policy, 0.5, asked)
    assert (over["skipped"], over["cut_in_the_middle"]) == ((3, 0) if policy == "skip" else (0, 3))
    assert (result["failed"], result["planned"]) == (over["skipped"], 6)


def test_a_plan_counts_and_sends_nothing(evaluate, server, tmp_path):
    rates = ("--prefill-rate", "1000", "--decode-rate", "10", "--price-in", "1", "--price-out", "2")
    status, printed, _ = evaluate("plan", tmp_path, *rates)
    assert (status, server.bodies) == (0, [])
    rows = [json.loads(line) for line in (tmp_path / "capitals/rows.jsonl").open()]
    assert f"| {sum(row['prompt_tokens'] for row in rows):,} |" in printed
    assert "| 96 |" in printed


def test_a_plan_without_answers_is_replaced(evaluate, measure, tmp_path):
    assert evaluate("plan", tmp_path, "sets.capitals.options.samples=1")[0] == 0
    assert measure(tmp_path)["planned"] == 6
    (tmp_path / "capitals/plan.json").unlink()
    with pytest.raises(EvaluationError, match=r"answers.jsonl without plan.json. Fix: "):
        measure(tmp_path)


def work_in_child(measure, out, notes=None, kill_at=None):
    """Measure and report in a forked child, which is killed when it opens or renames a file for the `kill_at`-th time.

    Sends the number of times to `notes`. The log is left out, because several answers may be written to it at once.
    """

    def run():
        child, touches = os.getpid(), 0

        def note(event, arguments):
            nonlocal touches
            path = str(arguments[0]) if event in ("open", "os.rename") else ""
            if path.startswith(str(out)) and not path.endswith("answers.jsonl") and os.getpid() == child:
                touches += 1
                if touches == kill_at:
                    os.kill(child, signal.SIGKILL)

        # Here the process that applies the rules is a fork, which takes no time: this child has one thread.
        cpu_deadline.fork_helpers()
        sys.addaudithook(note)
        measure(out, *SIX)
        write_report(out)
        if notes is not None:
            notes.send(touches)

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    return child


def kill_while_asking(measure, server, out, moment):
    """Kill a child while the server holds its request number `moment`."""
    asked, children = len(server.bodies), []

    def kill(body, n):
        if n == asked + moment:
            os.kill(children[0].pid, signal.SIGKILL)
        return 0.005

    server.behave = kill
    children.append(work_in_child(measure, out))
    children[0].join()
    server.behave = lambda body, n: 0.0
    assert children[0].exitcode == -signal.SIGKILL


def kill_at_a_file(measure, server, out, touch):
    """Kill a child when it opens or renames a file, while it plans, begins to ask, scores or reports."""
    child = work_in_child(measure, out, kill_at=touch)
    child.join()
    assert child.exitcode == -signal.SIGKILL


def test_kill_9_at_20_moments_gives_the_same_tables(measure, server, tmp_path, monkeypatch):
    # Answers are written one by one, so that a kill can fall between any two.
    monkeypatch.setattr(log, "GROUP_S", 0.0)
    calm = tmp_path / "calm"
    measure(calm, *SIX)
    write_report(calm)
    undisturbed = len(server.bodies)
    received, notes = multiprocessing.Pipe(duplex=False)
    work_in_child(measure, tmp_path / "noted", notes).join()
    touches = received.recv()
    assert touches > 40
    asking = [(kill_while_asking, [moment]) for moment in (1, 2, 5, 8, 12)] + [(kill_while_asking, [3, 3, 3])]
    files = [(kill_at_a_file, [1 + number * (touches - 1) // 13]) for number in range(14)]
    for kill, moments in asking + files:
        seen, killed = len(server.bodies), tmp_path / f"{kill.__name__} {moments}"
        for moment in moments:
            kill(measure, server, killed, moment)
        measure(killed, *SIX)
        write_report(killed)
        for name in FILES:
            assert (killed / name).read_bytes() == (calm / name).read_bytes(), (killed, name)
        # Only requests in flight, and those whose answers were not yet on the disk, are asked again.
        assert len(server.bodies) - seen <= undisturbed + 4 * len(moments)


def test_a_plan_that_was_not_completed_is_made_again(measure, server, tmp_path):
    folder = tmp_path / "capitals"
    folder.mkdir()
    (folder / "rows.jsonl").write_text('{"row": {"id": "half')
    assert measure(tmp_path)["scored"] == 6


def test_a_line_that_a_kill_has_cut_is_asked_again(measure, server, tmp_path):
    before = measure(tmp_path)
    answers = tmp_path / "capitals/answers.jsonl"
    answers.write_bytes(answers.read_bytes()[:-20])
    asked = len(server.bodies)
    assert measure(tmp_path) == before
    assert len(server.bodies) == asked + 1
