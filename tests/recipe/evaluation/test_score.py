"""Tables of scored answers, averages of profiles, and wrong rules and benchmarks."""

import json

import pytest
from support import tiny_benchmark

from recipe.longrl.evaluation.catalog import BenchmarkError, find_benchmark, read_rows
from recipe.longrl.evaluation.records import Benchmark, Row
from recipe.longrl.evaluation.report import average_by_profile
from recipe.longrl.evaluation.score import make_tables

RECORD = {
    "set": "s",
    "profile": "p",
    "benchmark": "b",
    "options": {"rule": "", "aggregate": "rows", "over_window": "fail"},
}


def line(row, score, state="scored", **values):
    defaults = {"sample": 0, "fit": "whole", "empty": False, "token_drift": False, "cell": "", "length": None}
    defaults |= {"position": None, "cluster": row, "parts": {"published": {}}, "parsed": {"published": ""}}
    return {**defaults, "row": row, "state": state, "scores": {"published": score}, **values}


def tables(lines, **options):
    benchmark = Benchmark("b", tiny_benchmark.rows, {"published": tiny_benchmark.substring}, "")
    return make_tables(RECORD | {"options": RECORD["options"] | options}, lines, benchmark)


def test_failed_answers_are_in_the_denominator():
    lines = [line(str(i), 1.0) for i in range(199)] + [line("x", 0.0, "failed")]
    result = tables(lines)
    assert result["rules"]["published"]["mean"] == 199 / 200
    assert result["headline"]["rule"] == "published"
    assert tables([*lines, line("y", 0.0, "failed"), line("z", 0.0, "failed")])["headline"] is None


def test_a_cut_answer_is_scored_as_it_is():
    result = tables([line("a", 1.0, "cut"), line("b", 0.0)])
    assert (result["cut"], result["headline"]["mean"]) == (1, 0.5)


def test_accuracy_given_all_evidence():
    parts = [{"recall": 1.0, "cited": 2.0}, {"recall": 1.0, "cited": 1.0}, {"recall": 0.5, "cited": 1.0}, {}]
    lines = [line(str(i), float(i < 2), parts={"published": part}) for i, part in enumerate(parts)]
    result = tables(lines)
    assert result["grounding"]["full_recall"]["mean"] == 1.0
    assert (result["grounding"]["incomplete_recall"]["n"], result["grounding"]["incomplete_recall"]["mean"]) == (1, 0.0)
    values_found = [line("a", 1.0, parts={"published": {"recall": 1.0, "surplus": 0.0}})]
    assert tables(values_found)["grounding"] is None
    assert result["parts"]["published"]["recall"] == {"n": 3, "mean": pytest.approx(2.5 / 3)}


def test_an_unknown_rule_is_named():
    with pytest.raises(BenchmarkError, match=r"rule = strct: b has no such rule. Fix: one of published"):
        tables([line("a", 1.0)], rule="strct")


def test_the_average_of_a_profile_needs_all_its_headlines():
    records = {name: {"profile": "p", "average": ["a", "b"]} for name in ("a", "b")}
    headlines = {"a": {"headline": {"mean": 0.2}}, "b": {"headline": {"mean": 0.4}}}
    assert average_by_profile(headlines, records)["p"]["mean"] == pytest.approx(0.3)
    assert average_by_profile({**headlines, "b": {"headline": None}}, records)["p"]["missing"] == ["b"]
    assert average_by_profile({"a": headlines["a"]}, {"a": records["a"]})["p"]["mean"] is None


def test_token_drift_and_empty_answers_are_counted(measure, server, tmp_path):
    server.behave = lambda body, n: ""
    result = measure(tmp_path)
    assert (result["empty"], result["token_drift"]) == (6, 6)
    scores = [json.loads(each) for each in (tmp_path / "capitals/scores.jsonl").open()]
    assert {each["state"] for each in scores} == {"scored"}


def test_benchmarks_by_reference_and_their_options():
    benchmark = find_benchmark("support.tiny_benchmark:BENCHMARK")
    assert len(list(read_rows(benchmark, {"samples": 2}, None, 0))) == 4
    with pytest.raises(
        BenchmarkError, match=r"options.sample = 2: capitals has no such option. Fix: one of lengths, samples"
    ):
        list(read_rows(benchmark, {"sample": 2}, None, 0))
    with pytest.raises(BenchmarkError, match=r"found dict. Fix: an object of class Benchmark"):
        find_benchmark("support.tiny_benchmark:CAPITALS")
    with pytest.raises(BenchmarkError, match="No module named 'nowhere'"):
        find_benchmark("nowhere:X")


def test_two_rows_with_one_id_are_refused():
    twice = Row("same", ({"role": "user", "content": "?"},), "", 1)
    benchmark = Benchmark("b", lambda: iter([twice, twice]), {}, "")
    with pytest.raises(BenchmarkError, match="b: two rows have the id 'same'"):
        list(read_rows(benchmark, {}, None, 0))
