"""RULER-QA: chunks, evidence and prompt, on toy documents and on the real ones."""

import pytest
from support.eval_wheels import require_wheels
from verl_longrl.data.prompt import parse_chunks

from data_gen.tokenizer import BUILTIN, load_tokenizer
from recipe.longrl.evaluation import sources
from recipe.longrl.evaluation.benchmarks.registry import REGISTRY
from recipe.longrl.evaluation.benchmarks.ruler_qa import chunks_that_overlap, joined_documents, ruler_qa_rows
from recipe.longrl.evaluation.benchmarks.ruler_tasks.pools import Question, QuestionPool, hotpotqa
from recipe.longrl.evaluation.benchmarks.ruler_tasks.questions import Selection
from recipe.longrl.evaluation.records import NO_DOCUMENT


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(BUILTIN)


def test_gold_spans_are_the_paragraph_or_the_supporting_sentences():
    documents = ["Title A\nOne. Two. Three.", "Title B\nFour. Five."]
    sentences = {0: ["One. ", "Two. ", "Three."], 1: ["Four. ", "Five."]}
    pool = QuestionPool([], documents, sentences)
    squad = Selection(Question("?", ["x"], [1], [], "article"), [0, 1], pool)
    text, spans = joined_documents(squad)
    assert text == "Document 1:\nTitle A\nOne. Two. Three.\n\nDocument 2:\nTitle B\nFour. Five."
    assert [text[a:b] for a, b in spans] == [documents[1]]
    hotpot = Selection(Question("?", ["x"], [0, 1], [], "article", [(0, 1), (1, 0)]), [1, 0], pool)
    text, spans = joined_documents(hotpot)
    assert sorted(text[a:b] for a, b in spans) == ["Four. ", "Two. "]


def test_chunk_tags_in_documents_become_text_of_the_same_length():
    pool = QuestionPool([], ["see <CHUNK_3> and </CHUNK_3>", "gold"], {})
    text, ((start, end),) = joined_documents(Selection(Question("?", ["x"], [1], [], "a"), [0, 1], pool))
    assert "<CHUNK" not in text
    assert text[start:end] == "gold"


@pytest.mark.parametrize(
    ("spans", "numbers"),
    [([(0, 5)], (0,)), ([(4, 6)], (0,)), ([(4, 7)], (0, 1)), ([(5, 6)], ()), ([(0, 1), (20, 99)], (0, 2)), ([], ())],
)
def test_evidence_is_every_chunk_that_shares_a_character(spans, numbers):
    # White space between chunks, such as characters 5 and 11, belongs to none.
    assert chunks_that_overlap([(0, 5), (6, 11), (12, 30)], spans) == numbers


@pytest.mark.parametrize("sampler", ["official", "repaired"])
def test_real_rows_have_their_evidence_in_the_chunks_named(tokenizer, sampler):
    require_wheels(sources.LONG_CONTEXT_EVAL)
    rules = REGISTRY["ruler_qa"].rules
    rows = list(ruler_qa_rows(tokenizer=tokenizer, lengths=[4096], samples=4, sampler=sampler, chunk_tokens=128))
    assert [row.cell for row in rows] == ["qa_1/4096"] * 4 + ["qa_2/4096"] * 4
    questions = {question.article: question for question in hotpotqa().questions}
    for row in rows:
        chunks = parse_chunks(row.messages[0]["content"])
        assert len(chunks) == row.meta["num_chunks"] > 10
        closed = row.closed_book[0]["content"]
        assert closed.startswith(f"{NO_DOCUMENT}\n\nQuestion: {row.meta['question']}\n\n")
        assert row.messages[0]["content"].endswith(closed.removeprefix(NO_DOCUMENT))
        shown = " ".join(chunks[number] for number in row.evidence)
        assert row.evidence
        if row.cell.startswith("qa_1"):
            assert any(gold in shown for gold in row.gold)
        else:
            sentences = hotpotqa().sentences
            for place, number in questions[row.cluster].facts:
                # A sentence may be cut into several chunks.
                assert "".join(sentences[place][number].split()) in "".join(shown.split())
        cited = "".join(f"<CHUNK_{number}>" for number in row.evidence)
        response = f"I look.</think><useful_chunks>{cited}</useful_chunks><answer>{row.gold[0]}</answer>"
        assert {rule: rules[rule](response, row).score for rule in rules} == dict.fromkeys(rules, 1.0)
        assert {rule: rules[rule]("", row).score for rule in rules} == dict.fromkeys(rules, 0.0)


def test_wrong_tasks_are_named(tokenizer):
    with pytest.raises(ValueError, match=r"tasks = niah_single_1: unknown. Fix: use some of qa_1, qa_2"):
        next(ruler_qa_rows(tokenizer=tokenizer, tasks=["niah_single_1"]))
