"""Every prompt that the data pipelines make, as a model reads it; see tests/support/snapshots.py on how to update."""

import random
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import synthetic_books
from support.snapshots import check_snapshot, render_messages, render_sections
from verl_longrl.data.prompt import grounded_prompt

from data_gen.grounding import prompts as grounding
from data_gen.importers import multiple_choice
from data_gen.importers.documents import LINES, import_document
from data_gen.importers.math_problems import import_problem
from data_gen.importers.tables import import_tables
from data_gen.keychain import prompts as keychain
from data_gen.keychain.needles import KINDS, RetrievalOptions, needles
from data_gen.multitask import prompts as multitask
from data_gen.multitask.compose import TaskComposeOptions, passages_of, render_prompt
from data_gen.multitask.computed_tasks import TASKS
from data_gen.multitask.computed_tasks.task import Limits, NothingToAsk
from data_gen.multitask.visible_text import VisibleText
from data_gen.multitask.written_tasks import BRIEFS, writing_brief
from data_gen.multitask.written_tasks.options import WriteOptions

SNAPSHOTS = Path(__file__).parent / "snapshots"
PASSAGES = passages_of(synthetic_books.document(0), TaskComposeOptions(passage_words=40))
CHUNKS = ["Ann built the mill in 1881.", "In 1890 Bo sold it to Cy."]


@pytest.mark.parametrize("task", TASKS)
def test_computed_tasks(task):
    """One question of each variant, without its text."""
    samples = {}
    for seed in range(40):
        try:
            sample = TASKS[task](VisibleText(PASSAGES), random.Random(seed), Limits())
        except NothingToAsk:
            continue
        samples.setdefault(sample.kind, sample)
    sections = {
        kind: f"{sample.question}\n\n{sample.answer_as}\n\n(ground truth: {sample.gold})"
        for kind, sample in sorted(samples.items())
    }
    check_snapshot(SNAPSHOTS / "multitask" / f"{task}.txt", render_sections(sections))


def test_whole_multitask_prompts():
    sample = TASKS["ordering"](VisibleText(PASSAGES), random.Random(0), Limits())
    shown = ["The mill is old.", "It was sold twice."]
    sections = {
        "without numbers": render_messages(
            render_prompt(shown, sample._replace(question="(the question)", numbered=False))
        ),
        "with numbers": render_messages(
            render_prompt(shown, sample._replace(question="(the question)", numbered=True))
        ),
    }
    check_snapshot(SNAPSHOTS / "multitask" / "whole_prompt.txt", render_sections(sections))


def instruction(task, **options):
    return BRIEFS[task](random.Random(0), WriteOptions(**options)).instruction


def test_instructions_to_write_a_task():
    least = {"min_evidence": 1, "max_answer_words": 1, "references": 1}
    sections = {
        "qa": instruction("qa"),
        "qa, with the smallest numbers": instruction("qa", **least),
        "choice": instruction("choice"),
        "summary of the whole text": instruction("summary", focused_share=0.0),
        "summary about one subject": instruction("summary", focused_share=1.0),
        "summary, with the smallest numbers": instruction("summary", focused_share=0.0, **least),
        "kinds of questions": "\n".join(f"{kind}: {rule}" for kind, rule in writing_brief.KINDS.items()),
    }
    check_snapshot(SNAPSHOTS / "multitask" / "write.txt", render_sections(sections))


@pytest.mark.parametrize("task", BRIEFS)
def test_questions_of_written_tasks(task):
    """The question and the answer instruction that a reply of the writer becomes."""
    options = WriteOptions(focused_share=1.0)
    reply = {
        "qa": {"answer": "Cy", "aliases": [], "wrong": "Bo"},
        "choice": {"answer": "Cy", "distractors": ["Ann", "Bo", "Nobody"]},
        "summary": {"focus": "the mill.", "summaries": ["word " * 100, "other " * 100]},
    }[task] | {"question": "Who owned the mill in 1891?", "evidence": CHUNKS, "explanation": "Bo sold it to Cy."}
    seed = next(n for n in range(40) if "about 100 words" in BRIEFS["summary"](random.Random(n), options).instruction)
    sample = BRIEFS[task](random.Random(seed), options).parse_reply(reply).sample
    check_snapshot(SNAPSHOTS / "multitask" / f"written_{task}.txt", f"{sample.question}\n\n{sample.answer_as}")


def test_verification_of_written_tasks():
    request = multitask.RATE_SUMMARY.format(
        question="Summarise the text in 75 to 125 words.", summary="A mill is sold."
    )
    sections = {
        "closed book": f"{multitask.CLOSED_BOOK}\n\n(question)\n\n(answer instruction)",
        "rating": render_messages(multitask.instruction_messages(CHUNKS, request)),
    }
    check_snapshot(SNAPSHOTS / "multitask" / "verify.txt", render_sections(sections))


def test_keychain_prompts():
    link = keychain.link("0a1b2c3d", 'Who owns "the mill"?')
    text = f"{keychain.OPENING}{keychain.heading(1)}The mill is old.{link} It was sold twice.\n\n"
    sections = {
        "keychain": render_messages(keychain.messages(text + keychain.keychain_question("0a1b2c3d"))),
        "plain": render_messages(keychain.messages(text + keychain.plain_question("Who owns the mill?"))),
    }
    check_snapshot(SNAPSHOTS / "keychain" / "chains.txt", render_sections(sections))


@pytest.mark.parametrize("kind", KINDS)
def test_needles(kind):
    """The sentences and the question of a row with several needles, and of one with a single needle."""
    sections = {}
    for number, form in ((3, "numbers"), (2, "uuids"), (1, "words")):
        options = RetrievalOptions(keys=number, values=number, value_form=form)
        lengths = SimpleNamespace(count=lambda texts: [len(text) for text in texts])
        hidden = needles(random.Random(number), kind, options, lengths).hidden
        sentences = "\n".join(link.text.decode().strip() for link in hidden.links)
        sections[f"{len(hidden.links)} with {form}"] = f"{sentences}\n\n(the task)\n{hidden.task}"
    check_snapshot(SNAPSHOTS / "keychain" / f"needles_{kind}.txt", render_sections(sections))


def test_every_needle_in_plain_words():
    lines = [f"{statement}\n  {question}" for statement, question in keychain.FACTS]
    check_snapshot(SNAPSHOTS / "keychain" / "facts.txt", "\n".join(lines))


def test_grounding_prompts():
    question, answer = "Who owned the mill before Cy?", "Bo"
    sections = {
        "question": render_messages(grounding.question_prompt(CHUNKS)),
        "rating": render_messages(grounding.rating_prompt(CHUNKS, question, answer, [0, 1])),
        "answer without the document": render_messages(grounding.answer_prompt(question, None)),
        "answer with the document": render_messages(grounding.answer_prompt(question, "\n".join(CHUNKS))),
        "training row": render_messages(grounded_prompt(CHUNKS, question)),
    }
    for name, text in sections.items():
        check_snapshot(SNAPSHOTS / "grounding" / f"{name.replace(' ', '_')}.txt", text)


@pytest.mark.parametrize("language", ["English", "Chinese"])
def test_imported_documents_and_choices(language):
    """A question about a long text, whole, and how to answer as each of the tasks."""
    row = {"context": "\n".join(CHUNKS), "question": "(the row's own question)", "language": language}
    answers = {task: ["Bo", "Cy"] for task in LINES} | {
        "golongrl_retrieval": "Ann built the mill in 1881.",
        "golongrl_qa": "Cy",
        "golongrl_math": "1890",
        "golongrl_summary": "A mill is built and sold.",
        "golongrl_table": {"columns": ["who", "year"], "data": [["Ann", 1881]]},
    }
    samples = [import_document(row | {"task": task, "answer": answer}) for task, answer in answers.items()]
    samples.append(multiple_choice.import_long_choices(row | {"choice_A": "Bo", "choice_B": "Cy", "answer": "B"}))
    sections = {"whole prompt": render_messages(samples[0].prompt)}
    for sample in samples:
        sections[sample.task] = sample.prompt[0]["content"].partition(row["question"])[2].strip()
    check_snapshot(SNAPSHOTS / "importers" / f"{language.lower()}.txt", render_sections(sections))


def test_imported_tables_and_problems():
    table = {"columns": ["who", "year"], "data": [["Ann", 1881]]}
    sql = {"tables": [table], "table_names": ["mills"], "query": "select who from mills", "answer": table}
    choices = {"Problem": "what is 1 + 1 ?", "options": "a ) 1 , b ) 2", "correct": "b"}
    sections = {
        "tables": import_tables(sql).prompt,
        "tables in Chinese": import_tables(sql | {"language": "Chinese"}).prompt,
        "math": import_problem({"problem": "What is 1 + 1?", "answer": "2"}).prompt,
        "mathqa": multiple_choice.import_mathqa(choices).prompt,
    }
    check_snapshot(
        SNAPSHOTS / "importers" / "tables_and_problems.txt",
        render_sections({name: render_messages(prompt) for name, prompt in sections.items()}),
    )
