"""Demonstrations from gold evidence quote it through the chunk's closing tag, then cite, then answer, in full marks.

Marked engine because transformers imports torch.
"""

from __future__ import annotations

import statistics

import pytest
from support import tiny_bpe
from verl_longrl.data.prompt import grounded_prompt
from verl_longrl.data.schema import Sample
from verl_longrl.rewards import RewardOptions
from verl_longrl.rewards.matching.response_format import parse_grounded

from data_gen.demonstrations.gold import GoldOptions, GoldWriter, split_sentences

pytestmark = pytest.mark.engine

TALK = "The boats were near the tower. "
CHUNKS = [
    f"{TALK}The mill is old.",
    f"{TALK}The access code of the mill is 7697.",
    f"The mill belongs to Ann. {TALK}",
    f"Ann was born in Rome. {TALK * 30}",
]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_bpe.build(CHUNKS, vocabulary=400)


def sample(refs: list[int], gold: str | list[str] = "7697", index: int = 0, **changes) -> Sample:
    question = "What is the access code of the mill?"
    values = {
        "data_source": "longrlvr",
        "prompt": grounded_prompt(CHUNKS, question),
        "ground_truth": gold,
        "index": index,
        "question": question,
        "ref_chunks": refs,
        "ref_chunks_text": [CHUNKS[ref] for ref in refs],
        "num_chunks": len(CHUNKS),
    }
    return Sample(**(values | changes))


@pytest.fixture
def write(tokenizer):
    """write(samples, options of GoldOptions) -> the writer, the responses."""

    def run(*samples: Sample, **options) -> tuple[GoldWriter, list[str]]:
        writer = GoldWriter(GoldOptions(**options), tokenizer, RewardOptions())
        return writer, [each.response for each in writer.write(samples)]

    return run


def test_the_sentence_with_the_answer_is_quoted_through_the_closing_tag(write):
    _, responses = write(sample([1]))
    assert responses == [
        "The access code of the mill is 7697.</CHUNK_1>\n</think>\n"
        "<useful_chunks><CHUNK_1></useful_chunks>\n<answer>7697</answer>"
    ]


def test_a_quote_runs_to_the_end_of_the_chunk_if_it_fits(write):
    refs, gold = [2], "Ann"
    whole = write(sample(refs, gold))[1][0]
    assert whole.startswith("The mill belongs to Ann. The boats were near the tower. </CHUNK_2>\n")
    alone = write(sample(refs, gold), style="sentence")[1][0]
    assert alone.startswith("The mill belongs to Ann. ... </CHUNK_2>\n")


def test_a_long_rest_of_a_chunk_is_left_out(write):
    writer, responses = write(sample([3], "Rome"), max_quote_tokens=40)
    assert responses[0].startswith("Ann was born in Rome. ... </CHUNK_3>\n")
    assert not writer.made.skipped


def test_evidence_that_is_too_long_is_skipped_and_counted(write):
    writer, responses = write(sample([3], "Rome"), max_quote_tokens=3)
    assert not responses
    assert writer.made.skipped == {"the evidence has more than 3 tokens": 1}


def test_marked_evidence_wins_over_the_answer(write):
    _, responses = write(sample([2, 3], "Rome", payload={"evidence": ["mill belongs to Ann", "Ann was born"]}))
    assert responses[0].split("\n")[0].startswith("The mill belongs to Ann.")
    assert responses[0].split("\n")[1].startswith("Ann was born in Rome.")


def test_a_marked_text_may_have_several_sentences_or_be_divided_by_chunks(write):
    whole = "Long ago the mill belongs to Ann.\n Ann was born in Rome. She"
    _, responses = write(sample([2, 3], "Rome", payload={"evidence": [whole]}), max_quote_tokens=40)
    assert responses[0].startswith("The mill belongs to Ann. The boats were near the tower. </CHUNK_2>\nAnn was born")


def test_without_the_answer_the_sentence_nearest_to_the_question_is_quoted(write):
    _, responses = write(sample([0], "Berlin"))
    assert responses[0].startswith("The mill is old.</CHUNK_0>")


def test_several_chunks_are_quoted_in_document_order(write):
    _, responses = write(sample([3, 1], "Rome"), max_quote_tokens=40)
    lines = responses[0].split("\n")
    assert [line.rpartition("</")[2] for line in lines[:2]] == ["CHUNK_1>", "CHUNK_3>"]
    assert parse_grounded(responses[0]).cited == (1, 3)


def test_the_first_of_several_gold_answers_is_given(write):
    assert parse_grounded(write(sample([1], ["7697", "code 7697"]))[1][0]).answer == "7697"


def test_reasoning_may_be_opened(write):
    assert write(sample([1]), open_think=True)[1][0].startswith("<think>\nThe access code")


def test_a_share_of_the_evidence_leaves_something_to_learn(write):
    """0.35 of four chunks: one or two, and always the one that states the answer."""
    samples = [sample([0, 1, 2, 3], index=index) for index in range(200)]
    writer, responses = write(*samples, quote_share=0.35, max_quote_tokens=40)
    cited = [parse_grounded(response).cited for response in responses]
    assert {len(chunks) for chunks in cited} == {1, 2}
    assert statistics.fmean(map(len, cited)) == pytest.approx(1.4, abs=0.12)
    assert all(1 in chunks for chunks in cited)
    assert writer.made.incomplete == writer.made.written == 200
    assert responses == write(*samples, quote_share=0.35, max_quote_tokens=40)[1]
    assert responses != write(*samples, quote_share=0.35, max_quote_tokens=40, seed=1)[1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data_source": "loongrl_qa"}, "not a grounded question (longrlvr)"),
        ({"data_source": "no such scorer"}, "not a grounded question (longrlvr)"),
        ({"ref_chunks": [9]}, "ref_chunks names a chunk that the prompt does not have"),
        ({"prompt": [{"role": "user", "content": "What?"}]}, "the prompt shows no chunks, or in several messages"),
        ({"ground_truth": "a </answer> b"}, "scores less than full marks (format_error: two </answer>"),
    ],
)
def test_what_cannot_be_demonstrated_is_counted(write, changes: dict, reason: str):
    writer, responses = write(sample([1], **changes), sample([1]))
    assert len(responses) == 1
    (counted,) = writer.made.skipped
    assert counted.startswith(reason[:40])


def test_sentences_are_separated_without_the_space_between_them():
    text = " Dr. Lee came. He left!\nA heading\n\nThe end. "
    assert [text[a:b] for a, b in split_sentences(text)] == ["Dr. Lee came.", "He left!", "A heading", "The end."]


def test_the_command_draws_rows_by_seed(tmp_path, monkeypatch, capsys):
    from verl_longrl.data.demonstrations import read_demonstrations
    from verl_longrl.data.schema import write_samples

    from data_gen.demonstrations import __main__ as command

    write_samples(tmp_path / "train.parquet", [sample([1], index=index) for index in range(10)])

    def make(name: str, *options: str) -> list[int]:
        out = str(tmp_path / f"{name}.parquet")
        command.app(["from-gold", str(tmp_path / "train.parquet"), "--out", out, *options], standalone_mode=False)
        return [each.sample.index for each in read_demonstrations(out)]

    assert make("all") == list(range(10))
    some = make("some", "--limit", "4")
    assert len(some) == 4
    assert some == sorted(some)
    assert make("same", "--limit", "4") == some
    assert make("other", "--limit", "4", "--seed", "1") != some
    assert "4 demonstrations" in capsys.readouterr().out
    command.app(["check", str(tmp_path / "all.parquet")], standalone_mode=False)


@pytest.mark.parametrize("gold", ["7697 and Ann", "7697, Ann", "Ann; 7697"])
def test_an_incomplete_demonstration_gives_the_members_that_it_quotes(write, gold):
    """With the whole answer it would teach to guess the rest."""
    rows = [sample([1, 2], gold, index) for index in range(20)]
    writer, responses = write(*rows, quote_share=0.0)
    assert (writer.made.incomplete, len(responses)) == (20, 20)
    for response in responses:
        says_code, says_owner = "is 7697." in response, "belongs to Ann" in response
        assert says_code != says_owner
        assert response.endswith(f"<answer>{'7697' if says_code else 'Ann'}</answer>")
    assert write(*rows)[1][0].endswith(f"<answer>{gold}</answer>")


def test_an_answer_that_one_chunk_states_stays_whole(write):
    (response,) = write(sample([1, 2], "The mill belongs to Ann"), quote_share=0.0)[1]
    assert response.endswith("<answer>The mill belongs to Ann</answer>")
