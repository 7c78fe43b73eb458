"""`parse_chunks` inverts `grounded_prompt`, and refuses everything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from verl_longrl.data.prompt import (
    INSTRUCTIONS,
    TAG,
    ChunkTagError,
    grounded_prompt,
    neutralise_tags,
    parse_chunks,
)

TEXT = st.text(max_size=60).map(neutralise_tags)
PIECES = [
    "<CHUNK_0>",
    "</CHUNK_0>",
    "<CHUNK_1>",
    "</CHUNK_1>",
    "<CHUNK_",
    "</",
    "0>",
    "\n",
    "\n\nQuestion: ",
    "x",
    "٣>",
]
TAGGED = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


def doc(*ids: int) -> str:
    return "\n".join(f"<CHUNK_{i}>text {i}</CHUNK_{i}>" for i in ids)


@given(chunks=st.lists(TEXT, min_size=1, max_size=12), question=TEXT)
def test_chunks_come_back_exactly(chunks, question):
    (message,) = grounded_prompt(chunks, question)
    assert message["role"] == "user"
    assert parse_chunks(message["content"]) == chunks


@given(chunks=st.lists(TAGGED.map(neutralise_tags), min_size=1, max_size=3), question=TAGGED, instructions=TAGGED)
def test_what_is_built_is_read_back_whatever_it_holds(chunks, question, instructions):
    try:
        (message,) = grounded_prompt(chunks, question, instructions)
    except ChunkTagError:
        assert TAG.search(question) or "</CHUNK_" in instructions
    else:
        assert parse_chunks(message["content"]) == chunks


def test_layout():
    assert grounded_prompt(["a", "b"], "Why?", "Be brief.")[0]["content"] == (
        "<CHUNK_0>a</CHUNK_0>\n<CHUNK_1>b</CHUNK_1>\n\nQuestion: Why?\n\nBe brief."
    )
    assert grounded_prompt(["a"], "Why?", "")[0]["content"] == "<CHUNK_0>a</CHUNK_0>\n\nQuestion: Why?"


def test_released_layout_with_instructions_first_is_read():
    content = (
        "Cite like <useful_chunks>\n<CHUNK_1>\n<CHUNK_3>\n</useful_chunks>; "
        "a chunk is <CHUNK_0>...</CHUNK_0>.\n"
        f"Document:\n{doc(0, 1, 2)}\n\nQuestion: Is <CHUNK_1> true?"
    )
    assert parse_chunks(content) == ["text 0", "text 1", "text 2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no document", r"no <CHUNK_i>"),
        (INSTRUCTIONS, r"no <CHUNK_i>"),
        (doc(1, 2), r"first chunk is <CHUNK_1>"),
        (doc(0, 2), r"<CHUNK_2> follows 1 chunks; expected <CHUNK_1>"),
        (doc(0, 1, 1), r"<CHUNK_1> follows 2 chunks; expected <CHUNK_2>"),
        (doc(0, 0, 1), r"<CHUNK_0> appears twice"),
        (doc(0, 1, 0, 1), r"<CHUNK_0> appears twice"),
        (doc(0, 2, 1), r"expected <CHUNK_1>"),
        (
            "<CHUNK_0>a</CHUNK_0>\n<CHUNK_1>b\n<CHUNK_2>c</CHUNK_2>",
            r"<CHUNK_1> is not closed before <CHUNK_2>",
        ),
        ("<CHUNK_0>a</CHUNK_0>\n<CHUNK_1>b\n\nQuestion: q", r"<CHUNK_1> is not closed"),
        (
            "<CHUNK_0>a</CHUNK_0>\n<CHUNK_1>see <CHUNK_0></CHUNK_1>",
            r"<CHUNK_1> is not closed before <CHUNK_0>",
        ),
        ("<CHUNK_0>a</CHUNK_0> and <CHUNK_1>b</CHUNK_1>", r"there is text between two chunks"),
        ("<CHUNK_0>a</CHUNK_0>\nb</CHUNK_1>", r"</CHUNK_1> follows 1 chunks"),
        (
            f"{doc(0, 1)}\n\nQuestion: {doc(0)}",
            r"two documents: <CHUNK_0> at character 0 has text, and <CHUNK_0> follows",
        ),
        (f"{doc(0, 1)}\n\nQuestion: {doc(0, 1, 2)}", r"there are two documents"),
        (f"Cite <CHUNK_0>...</CHUNK_0>.\n{doc(0, 1)}\n\nQuestion: {doc(0)}", r"there are two documents"),
        (f"<CHUNK_0>*</CHUNK_0>\n<CHUNK_1>a</CHUNK_1>\n\nQuestion: {doc(0)}", r"two documents: <CHUNK_1> at"),
    ],
)
def test_bad_tags_are_named(content, message):
    with pytest.raises(ChunkTagError, match=message):
        parse_chunks(content)


def test_chunk_text_with_a_tag_is_refused_when_building():
    with pytest.raises(ChunkTagError, match=r"chunk 1 contains <CHUNK_3> at character 4.*neutralise_tags"):
        grounded_prompt(["a", "see <CHUNK_3>"], "q")
    with pytest.raises(ChunkTagError, match=r"chunk 0 contains </think> at character 2.*neutralise_tags"):
        grounded_prompt(["a </think>"], "q")
    with pytest.raises(ChunkTagError, match="no chunks"):
        grounded_prompt([], "q")


@pytest.mark.parametrize("question", ["What of <CHUNK_0>x</CHUNK_0>?", "Is <CHUNK_1> true?", "And </CHUNK_0>?"])
def test_a_question_with_a_tag_is_refused(question):
    with pytest.raises(ChunkTagError, match=r"the question contains <.* at character .*neutralise_tags"):
        grounded_prompt(["a", "b"], question)
    assert parse_chunks(grounded_prompt(["a", "b"], neutralise_tags(question))[0]["content"]) == ["a", "b"]


def test_instructions_may_name_chunks_but_not_write_one():
    assert parse_chunks(grounded_prompt(["a"], "q", "Cite like <CHUNK_0><CHUNK_1>.")[0]["content"]) == ["a"]
    for instructions in ("A chunk is <CHUNK_0>x</CHUNK_0>.", "It ends with </CHUNK_7>."):
        with pytest.raises(
            ChunkTagError, match=r"the instructions contain </CHUNK_\d> at character .*opening tag alone"
        ):
            grounded_prompt(["a"], "q", instructions)


def test_neutralise_keeps_length():
    text = "see <CHUNK_3> and </CHUNK_12>."
    assert neutralise_tags(text) == "see (CHUNK_3) and (/CHUNK_12)."
    assert not TAG.search(neutralise_tags(text))
    assert neutralise_tags("</think> < answer > <b>") == "(/think) ( answer ) <b>"


def test_parsing_is_linear():
    assert len(parse_chunks(grounded_prompt(["word " * 50] * 20_000, "q")[0]["content"])) == 20_000
