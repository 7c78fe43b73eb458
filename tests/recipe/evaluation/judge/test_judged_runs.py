"""Runs with judges on real HTTP servers: what is asked, kept, asked again and reported."""

import json
import re

import pytest
from support import fake_judge, tiny_benchmark
from support.fake_openai_server import Server, failure

from recipe.longrl.evaluation import client
from recipe.longrl.evaluation.__main__ import app
from recipe.longrl.evaluation.compare import compare_runs

JUDGED = "sets.capitals.benchmark=support.tiny_benchmark:JUDGED"
SIX = "sets.capitals.options.samples=6"
VERBOSE = {"Italy": "Rome, of course", "Spain": "Barcelona"}


def answer(body):
    """Right for most; of the two that a rule cannot read as right, one is."""
    country = next(name for name in tiny_benchmark.CAPITALS if f"capital of {name}?" in str(body))
    return VERBOSE.get(country) or tiny_benchmark.know(body)


@pytest.fixture
def run(evaluate, server, judge, tmp_path):
    """Runs six countries with the judge: run(*overrides, out) -> (status, stdout, stderr)."""
    server.honest = answer

    def run_judged(*overrides, out=tmp_path / "run"):
        one = (f"judge.servers={judge.url}", "judge.window=8192")
        named = () if any(override.startswith("judge=") for override in overrides) else one
        return evaluate("run", out, JUDGED, SIX, "client.attempts=1", *named, *overrides)

    return run_judged


def tables_of(folder):
    return json.loads((folder / "capitals/tables.json").read_text())


def only_judge(tables):
    """(name, description) of the one judge."""
    ((name, described),) = tables["judged"]["judges"].items()
    return name, described


def test_the_judge_decides_what_the_rule_leaves_open(run, judge, tmp_path):
    status, printed, _ = run()
    tables = tables_of(tmp_path / "run")
    name, described = only_judge(tables)
    assert status == 0
    # Italy is right, Spain and Laos are wrong; each country is at two lengths, and asked about once.
    assert tables["rules"]["strict"]["mean"] == pytest.approx(6 / 12)
    assert tables["headline"]["rule"] == name
    assert tables["headline"]["mean"] == pytest.approx(8 / 12)
    assert (described["decided"], described["share_right"]) == (6, pytest.approx(1 / 3))
    assert (described["undecided"], described["no_reply"], described["cut"]) == (0, 0, 0)
    assert len(judge.bodies) == 3
    assert f"| {name} | 66.67 [" in printed
    assert "; strict alone 50.00, judge decided 50.00 % |" in printed


def test_the_judge_never_sees_the_document(run, judge):
    run()
    for body in judge.bodies:
        assert "Nothing else is known" not in str(body)
        assert "What is the capital of" in str(body)
        assert (body["temperature"], body["max_tokens"], body["model"]) == (0.0, 2048, "judge")


def test_the_judge_is_pinned_and_named(run, tmp_path):
    run("judge.revision=v7", "judge.extra={top_k: 1}")
    (pinned,) = json.loads((tmp_path / "run/capitals/judges.json").read_text())
    assert (pinned["model"], pinned["revision"], pinned["temperature"], pinned["prompt"]) == (
        "judge",
        "v7",
        0,
        "fenced",
    )
    assert len(pinned["prompt_sha256"]) == 64
    assert pinned["server"]
    name, _ = only_judge(tables_of(tmp_path / "run"))
    for page in ("report.md", "report.html"):
        assert name in (tmp_path / "run" / page).read_text()
    assert "judge" not in json.loads((tmp_path / "run/capitals/plan.json").read_text())["options"]


def test_verdicts_are_never_asked_twice_and_failures_again(run, server, judge, tmp_path):
    judge.behave = lambda body, n: failure(400) if "Barcelona" in str(body) else 0.0
    status, printed, _ = run()
    _, described = only_judge(tables_of(tmp_path / "run"))
    assert (status, described["no_reply"], described["decided"]) == (1, 2, 4)
    assert "no headline: 16.7% of the answers have no verdict of the judge, more than 1.0%" in printed
    judge.behave, asked, answered = (lambda body, n: 0.0), len(judge.bodies), len(server.bodies)
    assert run()[0] == 0
    assert [fake_judge.read_question(body)[2] for body in judge.bodies[asked:]] == ["Barcelona"]
    before = (tmp_path / "run/capitals/scores.jsonl").read_bytes()
    assert run()[0] == 0
    assert len(judge.bodies) == asked + 1
    assert len(server.bodies) == answered
    assert (tmp_path / "run/capitals/scores.jsonl").read_bytes() == before


def test_an_undecided_reply_is_a_state_of_its_own(run, judge, tmp_path):
    judge.behave = lambda body, n: "Hard to say." if "Rome" in str(body) else 0.0
    status = run()[0]
    tables = tables_of(tmp_path / "run")
    _, described = only_judge(tables)
    assert (status, described["undecided"], described["decided"]) == (1, 2, 4)
    assert tables["headline"] is None
    assert run("--max-failed", "0.2")[0] == 0
    assert tables_of(tmp_path / "run")["headline"]["mean"] == pytest.approx(6 / 12)
    assert len(judge.bodies) == 3


def test_a_judge_that_dies_ends_the_run_plainly_and_is_resumed(run, judge, server, tmp_path, monkeypatch):
    monkeypatch.setattr(client, "GIVE_UP_AFTER", 2)
    judge.behave = lambda body, n: 0.0 if n == 1 else failure(503)
    status, _, problem = run("client.concurrency=1")
    assert status == 2
    assert "2 requests in a row failed, the last one with: " in problem
    assert "Fix: correct the server or the options, then rerun the same command" in problem
    asked, judge.behave = len(judge.bodies), (lambda body, n: 0.0)
    assert run("client.concurrency=1")[0] == 0
    assert len(judge.bodies) == asked + 2
    assert len(server.bodies) == 12


def test_another_judge_has_its_own_figure_and_keeps_the_answers(run, judge, server, tmp_path):
    run("judge.revision=a")
    first, judge.honest = only_judge(tables_of(tmp_path / "run"))[0], fake_judge.strict
    run("judge.revision=b")
    tables = tables_of(tmp_path / "run")
    assert only_judge(tables)[0] != first
    assert tables["headline"]["mean"] == pytest.approx(6 / 12)
    assert (len(server.bodies), len(judge.bodies)) == (12, 6)
    # The first judge's verdicts are still there.
    run("judge.revision=a")
    assert only_judge(tables_of(tmp_path / "run"))[0] == first
    assert tables_of(tmp_path / "run")["headline"]["mean"] == pytest.approx(8 / 12)
    assert len(judge.bodies) == 6


def test_figures_of_different_judges_are_never_compared(run, tmp_path):
    for revision in "ab":
        run(f"judge.revision={revision}", out=tmp_path / revision)
    run("judge.revision=a", out=tmp_path / "c")
    apart = compare_runs(tmp_path / "a", tmp_path / "b")["capitals"]
    assert set(apart["rules"]) == {"published", "strict"}
    assert any(name.startswith("judges.") for name in apart["settings_that_differ"])
    same = compare_runs(tmp_path / "a", tmp_path / "c")["capitals"]
    assert len(same["rules"]) == 3
    assert same["settings_that_differ"] == {}


def test_without_a_judge_the_rules_decide_alone(run, evaluate, tmp_path):
    run()
    assert evaluate("run", tmp_path / "run", JUDGED, SIX)[0] == 0
    tables = tables_of(tmp_path / "run")
    assert (tables["judged"], tables["headline"]["rule"], [*tables["rules"]]) == (
        None,
        "published",
        ["published", "strict"],
    )
    assert "No judge was used here" in (tmp_path / "run/report.md").read_text()
    assert list((tmp_path / "run/capitals").glob("judgements-*.jsonl"))


def test_two_judges_are_compared(run, judge, tmp_path):
    other = Server(honest=fake_judge.strict)
    try:
        pair = f"judge=[{{servers: {judge.url}, window: 8192}}, {{servers: {other.url}, revision: b, window: 8192}}]"
        assert run(pair)[0] == 0
    finally:
        other.close()
    tables = tables_of(tmp_path / "run")
    lenient, strict = tables["judged"]["judges"]
    assert tables["rules"][lenient]["mean"] == pytest.approx(8 / 12)
    assert tables["rules"][strict]["mean"] == pytest.approx(6 / 12)
    (agreement,) = tables["judged"]["agreement"]
    assert (agreement["n"], agreement["share"], agreement["kappa"]) == (6, pytest.approx(4 / 6), 0.0)
    assert [each["row"] for each in agreement["disagreements"]] == ["Italy/100", "Italy/200"]
    assert agreement["disagreements"][0]["verdicts"] == ["right", "wrong"]
    text = (tmp_path / "run/report.md").read_text()
    assert "agree on 66.67 % of 6 answers that both decided; Cohen's kappa 0.000. Shown are 2 of 2" in text
    assert "| Italy/200 | 0 | right | wrong |" in text
    assert "<td>Italy/200</td>" in (tmp_path / "run/report.html").read_text()


def test_scores_and_reports_need_no_server(run, server, judge, tmp_path, capsys):
    run()
    before, asked = (tmp_path / "run/report.json").read_bytes(), len(server.bodies) + len(judge.bodies)
    server.models = judge.models = []
    for command in ("score", "report"):
        with pytest.raises(SystemExit) as ended:
            app([command, str(tmp_path / "run")])
        assert ended.value.code == 0
        assert "judged by judge (" in capsys.readouterr().out
    assert (tmp_path / "run/report.json").read_bytes() == before
    assert len(server.bodies) + len(judge.bodies) == asked


def test_a_long_answer_is_cut_in_the_middle_and_counted(run, judge, tmp_path, monkeypatch):
    monkeypatch.setitem(VERBOSE, "Italy", f"Rome {'I explain. ' * 400} END")
    assert run("judge.max_candidate_chars=300")[0] == 0
    _, described = only_judge(tables_of(tmp_path / "run"))
    assert (described["cut"], described["decided"]) == (2, 6)
    (long,) = [text for text in (fake_judge.read_question(body)[2] for body in judge.bodies) if "explain" in text]
    assert long.startswith("Rome I explain.")
    assert long.endswith("END")
    assert "(the middle is left out)" in long
    assert len(long) <= 300


def test_a_prompt_is_counted_before_it_is_sent(run, judge, tmp_path, monkeypatch):
    monkeypatch.setitem(VERBOSE, "Italy", f"Rome {'I explain. ' * 300} END")
    assert run("judge.window=3000", "judge.max_tokens=100")[0] == 0
    assert only_judge(tables_of(tmp_path / "run"))[1]["cut"] == 2
    for body in judge.bodies:
        assert sum(len(message["content"].encode()) for message in body["messages"]) + 100 <= 3000
    asked = len(judge.bodies)
    status, _, problem = run("judge.window=1500", "judge.max_tokens=100")
    assert (status, len(judge.bodies)) == (2, asked)
    assert "tokens with a reply of 100, and the window is 1500. Fix: a judge with a longer window" in problem


def test_a_judges_tokenizer_counts_exactly(run, tokenizer_folder, judge, tmp_path):
    # Some 600 tokens, but more than 1,500 bytes.
    assert run("judge.window=1500", "judge.max_tokens=100", f"judge.tokenizer={tokenizer_folder}")[0] == 0
    assert only_judge(tables_of(tmp_path / "run"))[1]["decided"] == 6


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["judge=[{model: x}]"], r"judge.servers = \[\]: no server. Fix: judge.servers=http://host:8000/v1"),
        (["judge.model=other"], "judge.model = 'other': http.* serves .'judge'.*. Fix: judge.model= one of them"),
        (["judge.window=null"], "judge.window = null: .* does not tell its own. Fix: judge.window=TOKENS"),
        (["judge.modl=x"], r"judge\[0\].modl = 'x': unknown key"),
        (
            ["sets.capitals.benchmark=support.tiny_benchmark:BENCHMARK", "sets.capitals.judge.model=judge"],
            "sets.capitals.judge: support.tiny_benchmark:BENCHMARK is scored by rule alone. Fix: leave it out",
        ),
    ],
)
def test_judges_that_cannot_be_used_are_named_before_anything_is_asked(run, server, overrides, problem):
    status, _, printed = run(*overrides)
    assert (status, server.bodies) == (2, [])
    assert re.search(problem, printed), printed


def test_the_same_judge_twice_is_refused(run, judge):
    one = f"{{servers: {judge.url}, window: 8192}}"
    status, _, problem = run(f"judge=[{one}, {one}]")
    assert status == 2
    assert "judge: capitals has the same judge twice. Fix: judges that differ, or one alone" in problem
