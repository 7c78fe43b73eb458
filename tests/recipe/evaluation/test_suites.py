"""Suites of a training run: which rows they have, what a step writes, and what a stop, a failure or a resume leaves."""

import json

import pytest
from omegaconf import OmegaConf
from support import tiny_benchmark
from verl_longrl.trainer.evaluate_options import EvaluateOptions

from recipe.longrl.evaluation.catalog import read_rows, slice_of
from recipe.longrl.evaluation.errors import EvaluationError
from recipe.longrl.evaluation.records import Benchmark, Row
from recipe.longrl.evaluation.report import write_report
from recipe.longrl.evaluation.settings import read_settings, seen_in_training
from recipe.longrl.evaluation.suites import SuitePlanner, Suites, spread_rows

CAPITALS = {"benchmark": "support.tiny_benchmark:BENCHMARK", "options": {"samples": 6}, "slice": "all"}


@pytest.fixture
def planner(tokenizer, tmp_path):
    """planner(**keys of longrl.evaluate, window=...) -> a planner for a run in tmp_path."""

    def make(window=2048, save_freq=10, **keys):
        config = OmegaConf.create(
            {
                "data": {"max_response_length": 32, "apply_chat_template_kwargs": {}},
                "actor_rollout_ref": {"rollout": {"max_model_len": window, "name": "vllm"}},
                "trainer": {"save_freq": save_freq},
                "longrl": {"output_dir": str(tmp_path)},
            }
        )
        values = {"suites": ["capitals"], "sets": {"capitals": CAPITALS}, **keys}
        return SuitePlanner(config, EvaluateOptions.from_dict(values, "longrl.evaluate."), tokenizer)

    return make


@pytest.fixture
def engine(tokenizer):
    """A replica that knows the capitals: engine(name, prompt ids, sampling) -> ids. `asked` has what it was asked."""

    async def generate(name, prompt, sampling):
        generate.asked.append((name, sampling))
        question = {"messages": [{"content": tokenizer.decode(prompt)}]}
        if generate.fails(name):
            raise RuntimeError("the replica is gone")
        return [*tokenizer.encode(tiny_benchmark.know(question)), tokenizer.eos_token_id]

    generate.asked, generate.fails = [], lambda name: False
    return generate


def never():
    return None


def clustered(cluster, at=0):
    return Row(f"{cluster}/{at}", (), "", 1, cluster=cluster)


def test_slices_are_disjoint_keep_clusters_whole_and_have_a_fifth():
    names = [f"document {i}" for i in range(2000)]
    slices = {name: {slice_of(clustered(name, at)) for at in range(3)} for name in names}
    assert all(len(found) == 1 for found in slices.values())
    share = sum(found == {"development"} for found in slices.values()) / len(names)
    assert 0.17 < share < 0.23


def test_generated_rows_are_sliced_by_number():
    rows = [Row(f"vt/4096/{i}", (), "", 1) for i in range(10)]
    assert [i for i, row in enumerate(rows) if slice_of(row) == "development"] == [4, 9]


def test_the_slices_of_a_benchmark_make_up_all_of_it():
    rows = [clustered(f"document {i}", at) for i in range(40) for at in range(2)]
    benchmark = Benchmark("documents", lambda: iter(rows), {}, "")
    all_rows, development, reported = (
        [row.id for row in read_rows(benchmark, {}, None, 0, part)] for part in ("all", "development", "reported")
    )
    assert sorted(development + reported) == sorted(all_rows)
    assert development
    assert reported


def test_a_limit_is_spread_over_cells_and_clusters():
    rows = [
        Row(f"{cell}/{document}/{i}", (), "", 1, cell=cell, cluster=document)
        for cell in "abcd"
        for document in ("x", "y", "z")
        for i in range(5)
    ]
    assert [row.id for row in spread_rows(rows, 8)] == [f"{cell}/{d}/0" for cell in "abcd" for d in "xy"]
    assert [row.cell for row in spread_rows(rows, 2)] == ["a", "c"]
    assert [row.id for row in spread_rows(rows[:15], 4)] == ["a/x/0", "a/x/1", "a/y/0", "a/z/0"]
    assert len(spread_rows(rows, 1000)) == len(rows)


def test_suites_answer_at_their_steps_and_write_a_run(planner, engine, tmp_path):
    suites = Suites(planner(every=20), last_step=50)
    assert [step for step in range(51) if suites.due(step)] == [0, 20, 40, 50]
    assert suites.evaluate(19, engine, never) == {}
    metrics = suites.evaluate(20, engine, never)
    assert metrics["evaluate/capitals/published/mean"] == pytest.approx(10 / 12)
    assert metrics["evaluate/capitals/strict/length_200"] == pytest.approx(5 / 6)
    assert (metrics["evaluate/capitals/rows"], metrics["evaluate/capitals/failed_share"]) == (12, 0)
    assert metrics["evaluate/capitals/seconds"] > 0
    name, sampling = engine.asked[0]
    assert (len(engine.asked), name.startswith("capitals-")) == (12, True)
    assert (sampling["max_tokens"], sampling["temperature"]) == (32, 0.0)
    record = json.loads((tmp_path / "evaluate/step_20/capitals/plan.json").read_text())
    assert (record["model"]["model"], record["model"]["revision"]) == (str(tmp_path), "step 20")
    report = write_report(tmp_path / "evaluate/step_20")
    assert report["sets"]["capitals"]["headline"]["mean"] == pytest.approx(10 / 12)


@pytest.mark.parametrize("place", [".", "export", "checkpoints/global_step_10"])
def test_a_run_is_told_of_rows_that_training_has_seen(planner, engine, profile, tmp_path, place):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)

    def lines(*overrides):
        return [*seen_in_training(read_settings(str(profile), [], overrides, {"model": str(tmp_path / place)}))]

    assert lines() == []
    Suites(planner(), last_step=50).evaluate(10, engine, never)
    assert len(lines()) == 1
    assert "Fix: report sets.capitals.slice=reported" in lines()[0]
    assert lines("sets.capitals.slice=reported") == []


def test_a_step_is_not_answered_twice_and_repeated_steps_are(planner, engine):
    Suites(planner(), last_step=50).evaluate(10, engine, never)
    resumed = Suites(planner(), last_step=50)
    resumed.drop_after(10)
    assert resumed.evaluate(10, engine, never) == {}
    assert len(engine.asked) == 12
    resumed.drop_after(9)
    assert "evaluate/capitals/published/mean" in resumed.evaluate(10, engine, never)
    assert len(engine.asked) == 24


def test_a_stop_keeps_the_answers_and_the_next_start_asks_the_others(planner, engine):
    suites, reasons = Suites(planner(), last_step=50), iter([None, "asked to stop"])
    answered = []

    async def slow(name, prompt, sampling):
        import asyncio

        if len(answered) == 5:
            await asyncio.sleep(1000)
        answered.append(name)
        return await engine(name, prompt, sampling)

    assert suites.evaluate(10, slow, lambda: next(reasons)) == {}
    asked = len(engine.asked)
    metrics = Suites(planner(), last_step=50).evaluate(10, engine, never)
    assert metrics["evaluate/capitals/published/mean"] == pytest.approx(10 / 12)
    assert (asked, len(engine.asked)) == (5, 12)


def test_failures_are_counted_and_never_raised(planner, engine, capsys):
    engine.fails = lambda name: "Peru" in name
    metrics = Suites(planner(), last_step=50).evaluate(10, engine, never)
    assert metrics["evaluate/capitals/failed_share"] == pytest.approx(2 / 12)
    assert "evaluate/capitals/published/mean" not in metrics
    assert (
        "16.7% of the answers failed, more than 1.0%, the last with: RuntimeError: the replica is gone"
        in capsys.readouterr().out
    )


def test_a_suite_that_breaks_costs_its_figures_alone(planner, engine, capsys, monkeypatch):
    monkeypatch.setattr("recipe.longrl.evaluation.suites.score_set", lambda *_: 1 / 0)
    metrics = Suites(planner(), last_step=50).evaluate(10, engine, never)
    assert metrics == {"evaluate/capitals/failed_share": 1.0}
    assert "evaluation at step 10: capitals failed: ZeroDivisionError" in capsys.readouterr().out


def test_responses_at_their_longest_length_are_cut(planner, tokenizer):
    async def babble(name, prompt, sampling):
        return tokenizer.encode("Rome " * 100)[: sampling["max_tokens"]]

    assert Suites(planner(), last_step=50).evaluate(10, babble, never)["evaluate/capitals/cut_share"] == 1


@pytest.mark.parametrize(
    ("keys", "window", "problem"),
    [
        ({"suites": ["rulr"]}, 2048, "longrl.evaluate.suites = rulr: neither a set of profile training .* Fix: ruler"),
        ({"profile": "trainin"}, 2048, "longrl.evaluate.profile = trainin: not found. Fix: "),
        ({"sets": {"capitals": {**CAPITALS, "limits": 3}}}, 2048, "sets.capitals.limits"),
        ({}, 150, r"capitals: row France/200: prompt \+ answer = \d+ \+ 32 tokens, window 150; .*longrl.evaluate.sets"),
        ({"sets": {"capitals": {**CAPITALS, "options": {"lengths": []}}}}, 2048, "no row in slice all"),
    ],
)
def test_wrong_settings_are_found_before_the_first_step(planner, tmp_path, keys, window, problem):
    made = planner(window=window, **keys)

    def check():
        profile, suites = made.read()
        made.plan(tmp_path / "capitals", profile, "capitals", suites["capitals"])

    with pytest.raises(EvaluationError, match=problem):
        check()


def test_benchmarks_and_sets_of_the_profile_have_the_defaults_of_training(planner):
    _, suites = planner(suites=["own_parquet", "ruler"], limit=8).read()
    assert {*suites} == {"ruler", "own_parquet"}
    assert {(suite.slice, suite.limit, suite.max_tokens) for suite in suites.values()} == {("development", 8, 32)}
    assert suites["ruler"].options["samples"] == 20
