"""The grounded world: deterministic, answerable only from its evidence, split by document."""

from dataclasses import replace
from itertools import islice

import pytest
from verl_longrl.rewards import score

from recipe.longrl.demo.grounded.world import Fact, GroundedDocument, GroundedWorld, documents, make_question, response

CONFIG = GroundedWorld(questions_per_document=3)


def draw(count: int, seed: int | str) -> list[GroundedDocument]:
    return list(islice(documents(CONFIG, seed), count))


def reward(ask, text):
    return score("longrlvr", text, ask.answer, {"ref_chunks": ask.ref_chunks})


def test_same_seed_same_documents_and_a_longer_draw_extends_a_shorter_one():
    assert draw(20, "train-0") == draw(30, "train-0")[:20]
    assert draw(20, "train-0") != draw(20, "train-1")


def test_validation_documents_are_not_training_documents():
    train = {doc.chunks for doc in draw(300, "train-0")}
    val = {doc.chunks for doc in draw(100, "val-0")}
    assert len(train) == 300
    assert not train & val


def test_evidence_chunks_say_the_fact_and_no_other_chunk_names_the_key():
    for doc in draw(50, 0):
        assert 8 <= len(doc.chunks) <= 64
        for ask in doc.questions:
            assert len(ask.ref_chunks) == len(ask.evidence)
            for fact in ask.evidence:
                assert f"{fact.key} {fact.value}" in doc.chunks[fact.chunk]
                assert [i for i, text in enumerate(doc.chunks) if fact.key in text.split()] == [fact.chunk]


def test_gold_response_earns_the_full_reward():
    for doc in draw(20, 0):
        for ask in doc.questions:
            assert reward(ask, response(ask)).value == pytest.approx(2.0)


def test_part_of_the_evidence_earns_context_reward_only():
    ask = make_question([Fact("lamp", "amber", 3), Fact("door", "coral", 7), Fact("tower", "ivory", 1)])
    got = reward(ask, response(ask, ask.evidence[:2]))
    f2 = 5 * 1 * (2 / 3) / (4 * 1 + 2 / 3)
    assert got.status == "ok"
    assert got.value == pytest.approx(0.1 * f2)


def test_a_document_too_short_for_its_facts_is_refused():
    with pytest.raises(ValueError, match="2 chunks cannot hold"):
        next(documents(replace(CONFIG, lengths=((2, 1.0),)), 0))
