"""The LongRLVR reward: published values, a slow oracle, and the rows it refuses."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reward_cases import load_table
from verl_longrl.rewards import METRIC_KEYS, STATUSES, RewardOptions, Score, score
from verl_longrl.rewards.tasks.longrlvr import grounded_reward
from verl_longrl.rewards.tasks.longrlvr_f_beta import f_beta

CASES = load_table("longrlvr")
IDS = st.lists(st.integers(0, 12), max_size=20)


def respond(cited, answer):
    chunks = " ".join(f"<CHUNK_{i}>" for i in cited)
    return f"reasoning</think><useful_chunks>{chunks}</useful_chunks>\n<answer>{answer}</answer>"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_published_values(case):
    extra = {"ref_chunks": case["evidence"], "question": "?", "num_chunks": case.get("num_chunks")}
    options = RewardOptions.from_dict(case.get("options"))
    result = score("longrlvr", respond(case["cited"], case["answer"]), "Paris", extra, options=options)
    assert (result.status, result.reason) == ("ok", "")
    assert result.value == pytest.approx(case["value"], abs=5e-5)
    for part in ("recall", "precision", "context"):
        assert result.parts[part] == pytest.approx(case[part], abs=5e-5)
    assert result.parts["outside"] == case.get("outside", 0)
    assert result.parts["format"] == 1


def test_the_paper_on_a_reference_table():
    assert grounded_reward(1, 1, 0.1) == 2
    assert grounded_reward(0, 1, 0.1) == pytest.approx(0.1)
    assert grounded_reward(1, 5 / 9, 0.1) == pytest.approx(1.5556, abs=5e-5)
    assert grounded_reward(0, 0, 0.1) == 0
    assert f_beta([1], [1, 2], 2.0) == pytest.approx((1.0, 0.5, 0.5556), abs=5e-5)


@settings(deadline=None)
@given(IDS, IDS.filter(bool), st.integers(1, 4))
def test_f_beta_against_counting(cited, evidence, beta):
    hits = sum(1 for i in range(13) if i in cited and i in evidence)
    false = sum(1 for i in range(13) if i in cited and i not in evidence)
    missed = sum(1 for i in range(13) if i not in cited and i in evidence)
    expected = Fraction((1 + beta**2) * hits, (1 + beta**2) * hits + beta**2 * missed + false)
    assert f_beta(cited, evidence, beta).f == pytest.approx(float(expected))


@settings(deadline=None)
@given(IDS, IDS.filter(bool))
def test_evidence_never_hurts_and_noise_never_helps(cited, evidence):
    before = f_beta(cited, evidence, 2.0)
    for chunk in evidence:
        assert f_beta([*cited, chunk], evidence, 2.0).f >= before.f - 1e-12
    assert f_beta([*cited, 99], evidence, 2.0).f <= before.f
    assert f_beta([*cited, *cited], evidence, 2.0) == before
    assert f_beta(cited, evidence, 2.0, count_duplicates=True).f <= before.f


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_reward_rises_with_answer_and_evidence(answer, f, more, eta):
    value = grounded_reward(answer, f, eta)
    assert 0 <= value <= 2
    assert grounded_reward(max(answer, more), f, eta) >= value
    assert grounded_reward(answer, max(f, more), eta) >= value - 1e-12


@pytest.mark.parametrize("evidence", [[], None, "[1, 2]", [1.5], ["1"], [-1], 3])
def test_a_row_without_evidence_is_the_rows_fault(evidence):
    result = score("longrlvr", respond([1], "Paris"), "Paris", {"ref_chunks": evidence})
    assert (result.status, result.value) == ("scorer_error", 0)
    assert "ref_chunks" in result.reason
    assert "validate" in result.reason


def test_empty_evidence_is_refused_by_f_beta():
    with pytest.raises(ValueError, match="evidence is empty"):
        f_beta([1], [], 2.0)


def test_numpy_evidence():
    import numpy

    assert score("longrlvr", respond([1], "Paris"), "Paris", {"ref_chunks": numpy.array([1])}).value == 2


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_has_the_same_metrics(status):
    metrics = Score(0.5, {"answer": 1.0, "of_my_own": 3.0}, status).metrics()
    assert tuple(metrics) == METRIC_KEYS
    assert sum(metrics[f"status_{s}"] for s in STATUSES) == 1
    assert metrics[f"status_{status}"] == 1
    assert metrics["judge_fallback"] == (status in ("judge_error", "judge_away"))
    assert all(isinstance(value, float) for value in metrics.values())


def test_extra_parts_are_json():
    own = Score(0.5, {"answer": 1.0, "hops": 2, "a_depth": np.float32(0.5)}).extra_parts()
    assert own == '{"a_depth": 0.5, "hops": 2.0}'
    assert Score(0.5, {"answer": 1.0}).extra_parts() == "{}"


@pytest.mark.parametrize("bad", [{"value": float("nan")}, {"value": 1.0, "parts": {"answer": float("inf")}}])
def test_a_score_is_finite(bad):
    with pytest.raises(ValueError, match="not finite"):
        Score(**bad)


def test_a_score_has_a_known_status():
    with pytest.raises(ValueError, match="use one of ok"):
        Score(0.0, {}, "fine")
