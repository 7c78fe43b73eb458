"""What one model writes stays where another one confirms it, and everything else is counted."""

import re

import pytest
from support import fake_writer_llm, planted_fact_docs
from support.fake_openai_server import failure, reply
from support.pipeline_runs import row_of, servers_at

from data_gen.multitask.compose import TaskComposeOptions, passages_of
from data_gen.multitask.verify import VerifyOptions, VerifyStage
from data_gen.multitask.written_tasks.choice import LETTERS

TEXT = planted_fact_docs.document(1, topics=5, paragraphs=9)[0]
COMPOSE = TaskComposeOptions(max_prompt_tokens=8000, passage_words=40)
TOPIC, PEOPLE = next(iter(fake_writer_llm.facts_in(TEXT).items()))
FOUR = sorted(set(PEOPLE) - {fake_writer_llm.KNOWN})[:4]
BEST = max(FOUR[:2], key=lambda name: PEOPLE[name][0])
LARGEST = LETTERS[FOUR.index(max(FOUR, key=lambda name: PEOPLE[name][0]))]
SENTENCES = [sentence for _, sentence in PEOPLE.values()]
SHARED = {"numbered": False, "window": [0, len(passages_of(TEXT, COMPOSE))], "kind": "compare", "prompt_tokens": 1}
QA = {
    "task": "qa", "question": f"Who has the larger {TOPIC} number, {FOUR[0]} or {FOUR[1]}?", "answer_as": "Say it.",
    "gold": [BEST, f"Mr. {BEST}"], "evidence": SENTENCES[:2], **SHARED,
}  # fmt: skip
CHOICE = {
    "task": "choice", "answer_as": "Choose.", "gold": LARGEST, "evidence": SENTENCES[:4], **SHARED,
    "question": f"Whose {TOPIC} number is the largest of these?\n\n"
    + "\n".join(f"({letter}) {name}" for letter, name in zip(LETTERS, FOUR, strict=True)),
}  # fmt: skip
SUMMARY = {
    "task": "summary", "question": "Summarise the text in 2 to 20 words.", "answer_as": "Do it.", "evidence": [],
    "gold": [SENTENCES[0], SENTENCES[1]], **SHARED,
}  # fmt: skip


@pytest.fixture
def verify(server, tmp_path):
    """verify(samples, **options) -> the row."""

    def run(written, /, **options):
        wanted = VerifyOptions(**options)
        servers = servers_at(server.url, wanted.server_names("writer").values())
        stage = VerifyStage(wanted, COMPOSE, "writer", servers, 0)
        document = {"ingest": {"id": "d", "text": TEXT}, "write": {"id": "d", "samples": written}}
        return row_of(stage, tmp_path, document)

    return run


def way(body):
    """What a request is for."""
    first = body["messages"][0]["content"]
    if first.startswith("You grade"):
        return "grade"
    if "Below is a summary" in first:
        return "rate"
    return "with_text" if fake_writer_llm.CLOSING in first else "closed_book" if "not shown" in first else "probe"


def ways(server):
    return [way(body) for body in server.bodies if way(body) != "probe"]


def test_what_is_confirmed_stays_as_it_was_written(verify, server):
    row = verify([QA, CHOICE, SUMMARY])
    answered = {"closed_book": 0.0, "with_text": 1.0}
    rated = {"ratings": [{"coverage": 8.0, "faithfulness": 9.0}] * 2}
    assert row["samples"] == [QA | {"checked": answered}, CHOICE | {"checked": answered}, SUMMARY | {"checked": rated}]
    assert row["rejected"] == []
    assert row["counts"] == {"qa": 1, "choice": 1, "summary": 1}
    assert ways(server).count("with_text") == ways(server).count("closed_book") == 6
    assert ways(server).count("rate") == 2
    seeds = [body["seed"] for body in server.bodies if way(body) == "with_text"]
    assert len(set(seeds)) == 6


def says(**texts):
    """Behaves as told for the ways named, sensibly otherwise. A text with | in it: its parts in turn."""
    told = {name: text.split("|") if isinstance(text, str) else [text] for name, text in texts.items()}
    count = dict.fromkeys(told, 0)

    def behave(body, n):
        name = way(body)
        if name not in told:
            return 0.0
        count[name] += 1
        found = told[name][count[name] % len(told[name])]
        return found if isinstance(found, str) else found()

    return behave


WRONG = next(name for name in FOUR[:2] if name != BEST)
ANSWER = "</think>[Answer]\n"


@pytest.mark.parametrize(
    ("sample", "behave", "options", "status"),
    [
        (QA, says(closed_book=f"{ANSWER}{BEST}"), {}, "known"),
        (QA, says(closed_book=f"{ANSWER}{BEST}|{ANSWER}none|{ANSWER}none"), {}, None),
        (QA, says(closed_book=f"{ANSWER}{BEST}|{ANSWER}none|{ANSWER}none"), {"known": 0.3}, "known"),
        (QA, says(closed_book=lambda: failure(400)), {}, "unanswered"),
        (QA, says(with_text=f"{ANSWER}{WRONG}"), {}, "disagreed"),
        (QA, says(with_text="</think>I do not say."), {}, "disagreed"),
        (QA, says(with_text=lambda: reply(f"{ANSWER}{BEST}", "length")), {}, "disagreed"),
        (QA, says(with_text=f"{ANSWER}{WRONG}|{ANSWER}{BEST}|{ANSWER}{BEST}"), {}, None),
        (QA, says(with_text=f"{ANSWER}{WRONG}|{ANSWER}{BEST}|{ANSWER}{BEST}"), {"agree": 0.7}, "disagreed"),
        (QA, says(with_text=lambda: failure(400)), {}, "unanswered"),
        (QA, says(with_text=f"{ANSWER}It is {BEST}, I think"), {}, None),  # the judge says so
        (QA, says(with_text=f"{ANSWER}It is {BEST}, I think", grade="who knows"), {}, "unanswered"),
        (CHOICE, says(closed_book=f"</think>The correct answer is ({LARGEST})"), {}, "known"),
        (CHOICE, says(closed_book=f"</think>The correct answer is ({LARGEST})"), {"closed_book": 0}, None),
        (CHOICE, says(with_text="</think>The correct answer is (E)"), {}, "disagreed"),
        (CHOICE, says(with_text="</think>The correct answer is (E)"), {"samples": 0}, None),
        (SUMMARY, says(rate='{"remark": "", "coverage": 9, "faithfulness": 6}'), {}, "low_rating"),
        (SUMMARY, says(rate='{"remark": "", "coverage": 9, "faithfulness": 6}'), {"min_rating": 6}, None),
        (SUMMARY, says(rate='{"remark": "", "coverage": 9, "faithfulness": 60}'), {}, "unanswered"),
        (SUMMARY, says(rate="none"), {}, "unanswered"),
        (SUMMARY, says(rate="none"), {"min_rating": 0}, None),
        (SUMMARY, says(rate=lambda: failure(400)), {}, "unanswered"),
    ],
)  # fmt: skip
def test_what_another_model_does_not_confirm_is_rejected(verify, server, sample, behave, options, status):
    server.behave = behave
    row = verify([sample], **options)
    assert [found["status"] for found in row["rejected"]] == [status] * bool(status)
    assert [found["question"] for found in row["samples"]] == [sample["question"]] * (not status)
    assert row["counts"] == {f"{sample['task']}: {status}" if status else sample["task"]: 1}
    if status == "known":
        assert "with_text" not in ways(server)  # the long prompts are saved


def test_a_summary_keeps_the_references_that_are_good(verify, server):
    bad = SUMMARY | {"gold": ["Nothing of this is said.", SENTENCES[0]]}
    (sample,) = verify([bad])["samples"]
    assert sample["gold"] == [SENTENCES[0]]
    assert sample["checked"]["ratings"][0] == {"coverage": 2.0, "faithfulness": 1.0}


def test_the_judge_reads_the_evidence_and_all_accepted_answers(verify, server):
    server.behave = says(with_text=f"{ANSWER}It is {BEST}, I think")
    verify([QA], grader="another")
    graded = next(body for body in server.bodies if way(body) == "grade")
    content = graded["messages"][1]["content"]
    assert graded["who"] == "another"
    assert f"Reference answer:\n{BEST} | Mr. {BEST}\n" in content
    assert all(sentence in content for sentence in QA["evidence"])
    assert {body["who"] for body in server.bodies if way(body) == "with_text"} == {"writer"}


def test_who_answers():
    assert VerifyOptions().server_names("") == {}
    assert VerifyOptions().server_names("w") == {"verify.server": "w", "verify.grader": "w"}
    assert VerifyOptions(server="s").server_names("w") == {"verify.server": "s", "verify.grader": "s"}
    assert not VerifyStage(VerifyOptions(), COMPOSE, "", {}, 0).is_enabled()


@pytest.mark.parametrize(
    "wrong",
    [{"agree": 0}, {"known": 0}, {"min_rating": 11}, {"samples": -1}, {"attempts": 0}, {"top_p": 0}],
)
def test_wrong_options_are_refused(wrong):
    ((key, value),) = wrong.items()
    with pytest.raises(ValueError, match=re.escape(f"verify.{key} = {value}: expected ")):
        VerifyOptions.from_dict(wrong, "verify.")
