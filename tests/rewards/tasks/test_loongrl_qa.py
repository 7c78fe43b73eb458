"""LoongRL's answer reward as a scorer: the box, the rule, the judge, and the rows it refuses."""

import asyncio

import pytest
from support.reward_cases import load_table
from verl_longrl.rewards import METRIC_KEYS, RewardOptions, resolve, score, score_async
from verl_longrl.rewards.scoring import Verdict

TABLE = load_table("loongrl_qa")
PUBLISHED = TABLE.pop("paid_by_the_published_rule")
NAMES = ["loongrl_qa", "loongrl_keychain", "custom_longcontextqa_musique", "custom_longcontext_needle_qa_musique"]
ROWS = [(kind, case) for kind, cases in TABLE.items() for case in cases]


@pytest.mark.parametrize(
    ("kind", "case"), ROWS, ids=lambda value: str(value.get("response", ""))[:40] if isinstance(value, dict) else value
)
def test_table(kind, case):
    result = score("loongrl_qa", case["response"], case["gold"], options=RewardOptions.from_dict(case.get("options")))
    assert result.value == (kind == "correct")
    assert result.status == ("format_error" if kind == "malformed" else "ok")
    assert bool(result.reason) == (kind == "malformed")
    assert result.parts == ({} if kind == "malformed" else {"answer": result.value, "format": 1.0})
    assert tuple(result.metrics()) == METRIC_KEYS


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case["response"])
def test_paper_exact_accepts_tricks_that_the_guarded_rule_rejects(case):
    assert score("loongrl_qa", case["response"], case["gold"], options=RewardOptions(paper_exact=True)).value == 1
    assert score("loongrl_qa", case["response"], case["gold"]).value == 0


@pytest.mark.parametrize("name", NAMES)
def test_released_names(name):
    assert resolve(name) is resolve("loongrl_qa")


@pytest.mark.parametrize("gold", ["", [], None, {"answer": "Paris"}, [["Paris"]], "?!"])
@pytest.mark.parametrize("paper_exact", [False, True])
def test_a_row_without_an_answer_is_the_rows_fault(gold, paper_exact):
    result = score("loongrl_qa", "x</think>\\boxed{the}", gold, options=RewardOptions(paper_exact=paper_exact))
    assert (result.status, result.value) == ("scorer_error", 0)
    assert "ground_truth" in result.reason


class FixedJudge:
    def __init__(self, verdict):
        self.verdict, self.asked = verdict, []

    async def judge(self, question, reference, candidate, context=None):
        self.asked.append((question, reference, candidate))
        return Verdict(self.verdict)


@pytest.mark.parametrize("paper_exact", [False, True])
@pytest.mark.parametrize("verdict", [True, False])
def test_a_judge_decides_about_the_text_in_the_box(verdict, paper_exact):
    judge = FixedJudge(verdict)
    options = RewardOptions.from_dict({"answer": {"by": "judge"}, "paper_exact": paper_exact})
    result = asyncio.run(
        score_async(
            "loongrl_keychain",
            "Paris</think> \\boxed{\\text{US}}",
            ["United States", "USA"],
            {"question": "Where?"},
            options=options,
            judge=judge,
        )
    )
    assert result.value == verdict
    assert judge.asked == [("Where?", "United States | USA", "US")]


def test_a_response_without_a_box_is_not_judged():
    judge = FixedJudge(True)
    options = RewardOptions.from_dict({"answer": {"by": "judge"}})
    result = asyncio.run(score_async("loongrl_qa", "Paris", ["Paris"], options=options, judge=judge, truncated=True))
    assert (result.status, result.value, judge.asked) == ("truncated", 0, [])


def test_the_default_mode_is_each_tasks_own():
    part, whole = "Martin Luther King", "Martin Luther King Jr."
    grounded = f"<useful_chunks><CHUNK_1></useful_chunks><answer>{part}</answer>"
    assert score("loongrl_qa", f"\\boxed{{{part}}}", whole).parts["answer"] == 1
    assert score("longrlvr", grounded, whole, {"ref_chunks": [1]}).parts["answer"] == 0
    two_way = RewardOptions.from_dict({"answer": {"mode": "two_way"}})
    assert score("longrlvr", grounded, whole, {"ref_chunks": [1]}, options=two_way).parts["answer"] == 1
