"""A question about a long text is asked as its task's reward reads it: the answer earns all of it, a worse one less."""

import pytest
from verl_longrl.rewards import score
from verl_longrl.rewards.tasks.golongrl import LONGBENCH_PRO, TASKS

from data_gen.answer_templates import render_response
from data_gen.importers.documents import LINES, import_document
from data_gen.importers.fields import Unusable

TEXT = "In 1881 Ann built the mill.\nIn 1890 Bo sold it to Cy.\nIn 1902 Cy burnt it, for 34 coins."
PLAIN = {"context": TEXT, "question": "What of the mill?", "answer": "Cy"}
OWN_FORM = (
    'Who? Output the "[Answer]" identifier first, then the names line by line.\n\nOutput example:\n[Answer]\nEve\nSam'
)
PRO = {
    "id": "0af3",
    "context": TEXT,
    "language": "English",
    "token_length": "8k",
    "primary_task": "T7. Anomaly Detection",
    "contextual_requirement": "Full",
    "question_nonthinking": OWN_FORM,
    "question_thinking": f"Think first. {OWN_FORM}",
    "difficulty": "Easy",
}
ANSWERS = {  # task -> an answer, a worse one
    "golongrl_retrieval": ("In 1890 Bo sold it to Cy.", "In 1881 Ann built the mill."),
    "golongrl_qa": ("Cy", "Bo"),
    "golongrl_exhaustive": (["1881", "1890"], ["1881", "1902"]),
    "golongrl_math": ("\\frac{34}{2}", "34"),
    "golongrl_table": ({"columns": ["who"], "data": [["Ann"], ["Cy"]]}, {"columns": ["who"], "data": [["Ann"]]}),
    "golongrl_matching": (["S1: 2", "S2: 1"], ["S1: 2", "S2: 2"]),
    "golongrl_ranking": (["Cy", "Bo", "Ann"], ["Cy", "Ann", "Bo"]),
    "golongrl_ordering": (["built", "sold", "burnt"], ["sold", "built", "burnt"]),
    "golongrl_summary": ("Ann built a mill, which Cy burnt.", "A mill was built."),
}
MARKS = {"golongrl_retrieval": "", "golongrl_math": "\\boxed{}", "golongrl_table": "<answer>"}


def earned(sample, answer, language="English"):
    given = render_response(sample.data_source, answer, language)
    return score(sample.data_source, given, sample.ground_truth, sample.payload).value


def test_every_task_but_multiple_choice_can_be_asked():
    assert set(ANSWERS) == set(TASKS) - {"golongrl_choice"}


@pytest.mark.parametrize("language", ["English", "Chinese"])
@pytest.mark.parametrize("task", ANSWERS)
def test_the_answer_earns_the_reward_and_a_worse_one_less(task, language):
    answer, worse = ANSWERS[task]
    sample = import_document(PLAIN | {"task": task.removeprefix("golongrl_"), "answer": answer, "language": language})
    assert (sample.data_source, sample.task, sample.question) == (task, task, PLAIN["question"])
    assert sample.payload == {"language": language}
    assert (earned(sample, answer, language), earned(sample, worse, language) < 1) == (1.0, True)
    (message,) = sample.prompt
    read, question, asked = message["content"].split(TEXT)[1].split("\n\n")[1:]
    assert (question, "</think>" in asked) == (PLAIN["question"], True)
    assert MARKS.get(task, "[Answer]" if language == "English" else "[答案]") in asked
    assert (read == "(The text ends here.)") == asked.isascii() == (language == "English")


@pytest.mark.parametrize("language", ["English", "Chinese"])
@pytest.mark.parametrize("name", LONGBENCH_PRO)
def test_rows_of_longbench_pro_become_the_task_that_they_name(name, language):
    task = LONGBENCH_PRO[name]
    answer, worse = ([given] if isinstance(given, str) else given for given in ANSWERS[task])
    sample = import_document(PRO | {"secondary_task": name, "answer": answer, "language": language})
    assert (sample.data_source, sample.question) == (task, OWN_FORM)
    assert earned(sample, answer, language) == 1
    assert earned(sample, worse, language) < 1
    assert "Think first" not in sample.prompt[0]["content"]
    assert sample.prompt[0]["content"].index(TEXT) < sample.prompt[0]["content"].index(OWN_FORM)


@pytest.mark.parametrize(
    ("fields", "truth"),
    [
        ({"answer": 34}, "34"),
        ({"answer": ["Cy", "Cyrus"]}, ["Cy", "Cyrus"]),
        ({"answer": ["Cy", "Cyrus"], "secondary_task": "T3.2 Single-Hop Fact QA"}, "Cy"),
        ({"answer": "ACE", "task": "T3.1"}, "ACE"),
        ({"answer": "a\n\n b ", "task": "golongrl_matching"}, ["a", "b"]),
        ({"answer": [1881, 1890], "task": "exhaustive"}, ["1881", "1890"]),
        ({"answer": ["One.", "Two."], "task": "summary"}, ["One.", "Two."]),
        ({"answer": '[{"who": "Ann"}]', "task": "table"}, {"columns": ["who"], "data": [["Ann"]]}),
    ],
)
def test_answers_are_read_however_they_are_given(fields, truth):
    assert import_document(PLAIN | fields).ground_truth == truth


@pytest.mark.parametrize(
    ("fields", "reason", "message"),
    [
        ({"context": " "}, "no_context", r"context is ' ', expected text"),
        ({"context": ["a"]}, "no_context", r"context is \['a'\]"),
        (
            {"question": None},
            "no_question",
            r"question is None, expected text \(fields found: context, question, answer\)",
        ),
        ({"answer": None}, "no_answer", r"answer is None, expected text or a list of texts"),
        ({"answer": []}, "no_answer", r"answer is \[\]"),
        ({"answer": ["a", ""], "task": "ranking"}, "no_answer", r"answer is \['a', ''\]"),
        ({"answer": {"text": "a"}}, "no_answer", r"answer is \{'text': 'a'\}"),
        (
            {"task": "rankin"},
            "unknown_task",
            r"task is 'rankin', expected retrieval, qa, exhaustive, .*LongBench Pro's name",
        ),
        ({"task": "T9.9"}, "unknown_task", r"task is 'T9.9'"),
        ({"task": "choice", "answer": "B"}, "choice_without_choices", r"give the choices as choice_A"),
        ({"answer": "Cy\nBo"}, "several_lines", r"the answer is 'Cy\\nBo', expected one line; a list needs another"),
        ({"answer": ["Cy", "Bo\nCy"]}, "several_lines", r"'Bo\\nCy', expected one line"),
        ({"answer": ["a\nb", "c"], "task": "exhaustive"}, "unscorable", r"earns 0.4 as golongrl_exhaustive"),
        ({"answer": ["a"], "task": "ordering"}, "unscorable", r"earns 0 as golongrl_ordering.*cannot be ordered"),
        ({"answer": "3 {", "task": "math"}, "unscorable", r"earns 0 as golongrl_math"),
        ({"answer": "...", "task": "summary"}, "unscorable", r"has a reference without a word"),
        ({"answer": "Cy", "task": "table"}, "no_answer", r"answer is 'Cy', expected a table with at least one row"),
    ],
)
def test_what_cannot_be_used_has_a_reason(fields, reason, message):
    with pytest.raises(Unusable, match=message) as caught:
        import_document(PLAIN | fields)
    assert caught.value.reason == reason


def test_lists_are_lists_however_many_items_they_have():
    for task in set(LINES) - {"golongrl_ordering"}:
        assert import_document(PLAIN | {"answer": ["a"], "task": task}).ground_truth == ["a"]
