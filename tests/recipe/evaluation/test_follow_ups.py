"""Two requests for one answer: LongBench v2's chain of thought on a real HTTP server."""

import asyncio
import json

import pytest
from support.fake_openai_server import failure, reply

from recipe.longrl.evaluation.cost import NO_RATES, estimate_cost

QUESTION = "Which way, $COT$ or {x}?"
PROFILE = """
source: tests
sets:
  cot:
    benchmark: longbench_v2
    options: {prompt: cot}
"""


def reason_and_answer(body):
    """Reasoning for a prompt with the text, and the key for one with the reasoning."""
    return "The correct answer is (B)" if "omitted here" in str(body) else " North? $Q$ No: south. "


@pytest.fixture
def ask_twice(tmp_path, server, tokenizer_folder):
    """Runs two rows: ask_twice(*overrides, window) -> (tables, the plan)."""
    from recipe.longrl.evaluation.models import describe_model
    from recipe.longrl.evaluation.run import count_open_requests, plan_sets, run_sets
    from recipe.longrl.evaluation.score import score_set
    from recipe.longrl.evaluation.settings import read_settings

    row = {"domain": "Code", "sub_domain": "Repository", "difficulty": "easy", "length": "short", "answer": "B"}
    row |= {"question": QUESTION, "choice_A": "north", "choice_B": "south", "choice_C": "east", "choice_D": "west"}
    rows = [{**row, "_id": name, "context": f"The secret text {name}. " * 200} for name in ("a", "b")]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    (tmp_path / "cot.yaml").write_text(PROFILE)
    server.honest = reason_and_answer

    def run(*overrides, window=8192):
        flags = {"server": [server.url], "tokenizer": str(tokenizer_folder), "window": window}
        path = f"sets.cot.options.path={tmp_path / 'data.json'}"
        settings = read_settings(str(tmp_path / "cot.yaml"), [], [path, "client.attempts=1", *overrides], flags)
        model = describe_model(settings.model, tmp_path)
        plans = plan_sets(tmp_path / "out", settings.profile, settings.sets, model)
        run.open = count_open_requests(plans)
        asyncio.run(run_sets(plans, model, settings.client))
        return score_set(tmp_path / "out/cot"), plans["cot"]

    return run


def second_requests(server):
    return [body for body in server.bodies if "omitted here" in str(body)]


def test_the_second_request_has_the_reasoning_and_not_the_text(ask_twice, server, tmp_path):
    tables, plan = ask_twice()
    assert (tables["headline"]["mean"], tables["scored"], tables["planned"]) == (1.0, 2, 2)
    first, second = server.bodies[0], second_requests(server)[0]
    assert (first["max_tokens"], second["max_tokens"]) == (1024, 128)
    assert first["messages"][0]["content"].endswith("(D) west\n\nLet’s think step by step:")
    assert second["messages"] == [
        {
            "role": "user",
            "content": "Please read the following text and answer the questions below.\n\nThe text is too long and "
            f"omitted here.\n\nWhat is the correct answer to this question: {QUESTION}\nChoices:\n(A) north\n"
            "(B) south\n(C) east\n(D) west\n\nLet’s think step by step: North? $Q$ No: south.\n\n"
            "Based on the above, what is the single, most likely answer choice? Format your response as follows: "
            '"The correct answer is (insert answer here)".',
        }
    ]
    cost = estimate_cost(plan, NO_RATES)
    assert (cost["rows"], cost["requests"], cost["answer_tokens"]) == (2, 4, 2 * (1024 + 128))
    # Both rows have one question and one reasoning, so they have one second request.
    assert len(server.bodies) == 3
    lines = [json.loads(line) for line in (tmp_path / "out/cot/answers.jsonl").open()]
    assert len({line["key"] for line in lines}) == 3
    assert 0 < lines[-1]["counted_tokens"] < 600


def test_a_rerun_asks_only_what_is_missing(ask_twice, server):
    server.behave = lambda body, n: failure(400) if "omitted here" in str(body) else 0.0
    tables, _ = ask_twice()
    assert (tables["failed"], tables["headline"]) == (2, None)
    server.behave, asked = (lambda body, n: 0.0), len(server.bodies)
    assert ask_twice()[0]["headline"]["mean"] == 1.0
    assert (ask_twice.open, len(server.bodies)) == (1, asked + 1)
    ask_twice()
    assert (ask_twice.open, len(server.bodies)) == (0, asked + 1)


def test_a_first_answer_that_failed_has_no_second_request(ask_twice, server):
    server.behave = lambda body, n: failure(400) if "secret text a" in str(body) else 0.0
    tables, _ = ask_twice()
    assert (tables["failed"], tables["scored"]) == (1, 1)


def test_reasoning_that_was_cut_is_used_and_counted(ask_twice, server):
    server.behave = lambda body, n: 0.0 if "omitted here" in str(body) else reply("First,", "length")
    tables, _ = ask_twice()
    assert (tables["reasoning_cut"], tables["cut"], tables["headline"]["mean"]) == (2, 0, 1.0)


def test_a_second_request_over_the_window_is_not_sent(ask_twice, server, tmp_path):
    server.behave = lambda body, n: "Long reasoning. " * 4000
    tables, _ = ask_twice()
    assert (tables["failed"], second_requests(server)) == (2, [])
    scores = [json.loads(line) for line in (tmp_path / "out/cot/scores.jsonl").open()]
    assert scores[0]["error"].startswith("second request: prompt + answer = ")
    assert scores[0]["error"].endswith("+ 128 tokens, window 8192")


def test_repeats_have_second_requests_of_their_own(ask_twice, server):
    server.behave = lambda body, n: f"Reason {body['seed']}." if "omitted" not in str(body) else 0.0
    tables, _ = ask_twice("sets.cot.repeats=2", "sets.cot.sampling.temperature=0.5")
    assert tables["planned"] == 4
    assert sorted(body["seed"] for body in second_requests(server)) == [42, 43]
