"""MathQA's choices are read however they are written, and only the right letter earns the reward."""

import pytest
from verl_longrl.rewards import score

from data_gen.answer_templates import render_response
from data_gen.importers.fields import Unusable
from data_gen.importers.multiple_choice import import_long_choices, import_mathqa, options

TEXT = "a ) 38 , b ) 27.675 , c ) 30 , d ) data inadequate , e ) none of these"
FIVE = ["38", "27.675", "30", "data inadequate", "none of these"]
LONG = {
    "_id": "66f36490821e116aacb2cc22",
    "domain": "Single-Document QA",
    "question": "Who burnt the mill?",
    "choice_A": "Ann",
    "choice_B": "Bo",
    "choice_C": "Cy",
    "choice_D": "None of these",
    "answer": "C",
    "context": "Ann built the mill.\nCy burnt it.",
}
ROW = {"Problem": "the banker ' s gain is rs . 36 . find it .", "Rationale": "...", "options": TEXT, "correct": "b"}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (TEXT, FIVE),
        (TEXT.upper(), [choice.upper() for choice in FIVE]),
        ("a)38,b)27.675,c)30,d)data inadequate,e)none of these", FIVE),
        (FIVE, FIVE),
        ([38, 27.675, 30, "data inadequate", "none of these"], FIVE),
        (["a ) 38", "b ) 27.675", "c ) 30", "d ) data inadequate", "e ) none of these"], FIVE),
        ("['a ) 38', 'b ) 27.675', 'c ) 30', 'd ) data inadequate', 'e ) none of these']", FIVE),
        ("a ) rs . 1 , 500 , b ) ( 2 , 3 ) , c ) x ( a ) y", ["rs . 1 , 500", "( 2 , 3 )", "x ( a ) y"]),
        ("a ) 1 , b ) 2 , ", ["1", "2"]),
        (["yes", "no"], ["yes", "no"]),
    ],
)
def test_choices_are_read_however_they_are_written(written, read):
    assert options(written) == read


def test_the_letter_asked_for_earns_the_reward_and_no_other_does():
    for letter in "ABCDE":
        sample = import_mathqa(ROW | {"correct": letter.lower()})
        assert (sample.data_source, sample.ground_truth) == ("loongrl_choice", letter)
        for given in "ABCDE":
            response = f"Is it A or B?</think>It is \\boxed{{{given}}}."
            assert score("loongrl_choice", response, sample.ground_truth).value == float(given == letter)


def test_the_prompt_asks_for_the_letter_in_a_box():
    (message,) = import_mathqa(ROW | {"correct": "( E )"}).prompt
    problem, choices, asked = message["content"].split("\n\n")
    assert problem == ROW["Problem"]
    assert choices == "Choices:\n(A) 38\n(B) 27.675\n(C) 30\n(D) data inadequate\n(E) none of these"
    assert "</think>" in asked
    assert "letter" in asked
    assert "\\boxed{}" in asked


def test_a_choice_that_appears_twice_matters_only_if_it_is_correct():
    twice = "a ) 5 , b ) 5 , c ) 6"
    assert import_mathqa(ROW | {"options": twice, "correct": "c"}).ground_truth == "C"
    with pytest.raises(Unusable, match="the correct choice B appears twice"):
        import_mathqa(ROW | {"options": twice, "correct": "b"})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"Problem": ""}, "no_problem"),
        ({"Problem": None}, "no_problem"),
        ({"options": None}, "no_options"),
        ({"options": ""}, "no_options"),
        ({"options": "38 , 27.675 , 30"}, "no_options"),
        ({"options": "a ) 38"}, "no_options"),
        ({"options": ["a ) 38"]}, "no_options"),
        ({"options": []}, "no_options"),
        ({"options": {"a": "38", "b": "2"}}, "no_options"),
        ({"options": "b ) 38 , c ) 3"}, "unreadable_options"),
        ({"options": "so , a ) 38 , b ) 3"}, "unreadable_options"),
        ({"options": "a ) 1 , a ) 2 , b ) 3"}, "unreadable_options"),
        ({"options": "a ) 1 , c ) 2"}, "unreadable_options"),
        ({"options": "a ) 1 , b ) , c ) 3"}, "unreadable_options"),
        ({"options": ["a ) 1", "b ) 2", "3"]}, "unreadable_options"),
        ({"options": ["1", "b ) 2"]}, "unreadable_options"),
        ({"options": ["1", ""]}, "unreadable_options"),
        ({"options": list("123456")}, "unreadable_options"),
        ({"options": "[1, 2"}, "unreadable_options"),
        ({"correct": "f"}, "letter_outside"),
        ({"correct": "c", "options": "a ) 1 , b ) 2"}, "letter_outside"),
        ({"correct": "ab"}, "letter_outside"),
        ({"correct": "( )"}, "letter_outside"),
        ({"correct": 2}, "letter_outside"),
        ({"correct": None}, "no_correct"),
    ],
)
def test_what_cannot_be_used_has_a_reason(fields, reason):
    with pytest.raises(Unusable) as caught:
        import_mathqa(ROW | fields)
    assert caught.value.reason == reason


@pytest.mark.parametrize("language", ["English", "Chinese"])
def test_a_question_about_a_long_text_is_answered_in_a_sentence(language):
    for letter in "ABCD":
        sample = import_long_choices(LONG | {"answer": letter, "language": language})
        assert (sample.data_source, sample.task, sample.ground_truth) == ("golongrl_choice", "golongrl_choice", letter)
        for given in "ABCD":
            said = render_response("golongrl_choice", given, language)
            assert score("golongrl_choice", said, sample.ground_truth).value == float(given == letter)
    read, _, question, choices, asked = sample.prompt[0]["content"].removeprefix("Read the ").split("\n\n")[-5:]
    assert (read, question) == (LONG["context"], LONG["question"])
    assert choices == "(A) Ann\n(B) Bo\n(C) Cy\n(D) None of these"
    assert ("The correct answer is (X)" if language == "English" else "正确答案是（X）") in asked


def test_a_text_may_have_fewer_choices_or_more():
    assert import_long_choices(LONG | {"answer": "b", "choice_C": None, "choice_D": None}).ground_truth == "B"
    sample = import_long_choices(LONG | {"answer": "(F)", "choice_E": "Eve", "choice_F": 7})
    assert sample.ground_truth == "F"
    assert "(F) 7\n" in sample.prompt[0]["content"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"context": None}, "no_context"),
        ({"question": ""}, "no_question"),
        ({"choice_B": None}, "no_options"),
        ({"choice_B": " "}, "no_options"),
        ({"answer": None}, "no_answer"),
        ({"answer": "E"}, "letter_outside"),
        ({"answer": "Cy"}, "letter_outside"),
        ({"choice_A": "cy"}, "repeated_option"),
    ],
)
def test_a_question_about_a_long_text_that_cannot_be_used_has_a_reason(fields, reason):
    with pytest.raises(Unusable) as caught:
        import_long_choices(LONG | fields)
    assert caught.value.reason == reason
