"""A math problem is asked in the project's words, and its answer, given as they ask, earns the reward."""

import pytest
from verl_longrl.rewards import score

from data_gen.importers.fields import Unusable
from data_gen.importers.math_problems import import_dapo, import_problem
from data_gen.keychain.prompts import ANSWER

TRIANGLE = "In triangle $ABC$, $\\sin \\angle A = \\frac{4}{5}$.\n\nFind $a+b$ \\boxed{ }. Answer: what?"
DAPO_PROMPT = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.\n\n{}\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)


def dapo_row(content=None, truth="34", **fields):
    content = DAPO_PROMPT.replace("{}", TRIANGLE) if content is None else content
    return {
        "data_source": "math_dapo",
        "prompt": [{"content": content, "role": "user"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": truth, "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": "9a9b6eb4-a1cb-49d1-8c1e-62eaf2f74079"},
        **fields,
    }


def earned(sample, answer):
    return score(sample.data_source, f"I think.</think>So \\boxed{{{answer}}}", sample.ground_truth).value


@pytest.mark.parametrize(
    "row",
    [
        dapo_row(),
        dapo_row(DAPO_PROMPT.replace("{}", TRIANGLE).replace("$Answer", "$ANSWER") + " No box."),
        dapo_row(prompt=TRIANGLE),  # as in the sets made from it
        dapo_row(prompt=DAPO_PROMPT.replace("{}", TRIANGLE)),
        dapo_row(truth=34),
    ],
)
def test_dapos_problem_is_asked_our_way(row):
    sample = import_dapo(row)
    assert sample.prompt == [{"role": "user", "content": f"{TRIANGLE}\n\n{ANSWER}"}]
    assert (sample.data_source, sample.task, sample.question, sample.ground_truth) == ("math", "math", TRIANGLE, "34")
    assert (earned(sample, "34"), earned(sample, "35"), earned(sample, "3")) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("answer", "gold", "wrong"),
    [
        ("34", "34", "33"),
        (34, "34", "43"),
        (0.5, "0.5", "0.05"),
        ("\\frac{1}{2}", "\\frac{1}{2}", "\\frac{1}{3}"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}", "2"),
        ("$x^2 + 1$", "x^2 + 1", "x^2 - 1"),
        ("She sold 48/2 = 24.\nIn all 72.\n#### 72", "72", "48"),
        ("No Solution", "No Solution", "one solution"),
        (["1/2", "0.5"], ["1/2", "0.5"], "0.4"),
    ],
)
def test_answers_earn_the_reward_and_their_neighbours_do_not(answer, gold, wrong):
    sample = import_problem({"question": " How many?\r\n", "answer": answer})
    assert sample.ground_truth == gold
    assert sample.prompt[0]["content"] == f"How many?\n\n{ANSWER}"
    assert all(earned(sample, g) == 1.0 for g in (gold if isinstance(gold, list) else [gold]))
    assert earned(sample, wrong) == 0.0


def test_a_problem_comes_before_a_question_and_text_is_fit_to_be_written():
    sample = import_problem({"problem": "What is \ud800?", "question": "unread", "answer": "3"})
    assert sample.question == "What is ??"


ASKED = {"problem": "How many?"}


@pytest.mark.parametrize(
    ("read", "row", "reason", "message"),
    [
        (import_problem, {"answer": "3"}, "no_problem", r"problem is None, expected text \(fields found: answer\)"),
        (import_problem, {}, "no_problem", r"the row has no fields"),
        (import_problem, {"problem": " \n", "answer": "3"}, "no_problem", r"problem is ' \\n'"),
        (import_problem, {"question": ["a"], "answer": "3"}, "no_problem", r"question is \['a'\]"),
        (import_problem, ASKED, "no_answer", r"answer is \[None\]"),
        (import_problem, ASKED | {"answer": []}, "no_answer", r"answer is \[\]"),
        (import_problem, ASKED | {"answer": True}, "no_answer", r"\[True\]"),
        (import_problem, ASKED | {"answer": float("nan")}, "no_answer", r"\[nan\]"),
        (import_problem, ASKED | {"answer": "a ####"}, "no_answer", r"a ####"),
        (import_problem, ASKED | {"answer": ["3", ""]}, "no_answer", r"\['3', ''\]"),
        (import_problem, ASKED | {"answer": "First,\nthen."}, "no_final_answer", r"several lines, 'First,\\nthen\.'"),
        (import_problem, ASKED | {"answer": "{"}, "unscorable", r"the answer '\{' earns 0 as math, not 1: .*nothing"),
        (import_problem, ASKED | {"answer": "3 {"}, "unscorable", r"the last .* has no closing brace"),
        (import_problem, ASKED | {"answer": "..."}, "unscorable", r"nothing to compare"),
        (import_problem, ASKED | {"answer": "1+" * 600 + "1"}, "unscorable", r"earns 0 as math"),
        (import_dapo, dapo_row(data_source="openai/gsm8k"), "other_task", r"'openai/gsm8k', expected math_dapo"),
        (
            import_dapo,
            dapo_row("Solve this. Answer: yes"),
            "unknown_wording",
            r"not in DAPO's wording: 'Solve this",
        ),
        (import_dapo, dapo_row(DAPO_PROMPT.replace("{}", " ")), "no_problem", r"prompt is \[\{"),
        (import_dapo, dapo_row(prompt=None), "no_problem", r"prompt is None"),
        (import_dapo, dapo_row(prompt=[]), "no_problem", r"prompt is \[\]"),
        (import_dapo, dapo_row(truth=""), "no_answer", r"answer is \[''\]"),
        (import_dapo, dapo_row(reward_model=None), "no_answer", r"answer is \[None\]"),
    ],
)
def test_what_cannot_be_used_has_a_reason(read, row, reason, message):
    with pytest.raises(Unusable, match=message) as caught:
        read(row)
    assert caught.value.reason == reason
