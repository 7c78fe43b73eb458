"""Every layout gives the same questions, and a row that holds none is named in its place while the rest is kept."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_gen.document_readers import CorpusError
from data_gen.question_readers.question import AnnotatedQuestion, QuestionPassage, Skipped
from data_gen.question_readers.read import layout_of, read_questions
from data_gen.text import digest

PASSAGES = (
    QuestionPassage("Ada", "Ada was born in London. She was a writer.", True, ((0, 41),)),
    QuestionPassage("Bo", "Bo sings.", False),
    QuestionPassage("London", "London is in England.", True, ((0, 21),)),
)
CONTEXT = [
    ["Ada", ["Ada was born in London.", " She was a writer."]],
    ["Bo", ["Bo sings."]],
    ["London", ["London is in England."]],
]
FACTS = [["Ada", 1], ["Ada", 0], ["London", 0]]
ASKED = {"question": "In which country was Ada born?", "answer": "England"}
HOTPOT = {"_id": "5a7a06935542990198eaf050", **ASKED, "type": "bridge", "context": CONTEXT, "supporting_facts": FACTS}
TWOWIKI = HOTPOT | {"evidences": [["Ada", "place of birth", "London"]]}
MUSIQUE = {
    "id": "2hop__1_2",
    **ASKED,
    "answer_aliases": ["ENGLAND", "the UK", "", "The uk"],
    "answerable": True,
    "paragraphs": [
        {"idx": n, "title": p.title, "paragraph_text": p.text, "is_supporting": p.gold} for n, p in enumerate(PASSAGES)
    ],
}
GENERIC = ASKED | {"id": 7, "passages": [{"title": p.title, "text": p.text, "gold": p.gold} for p in PASSAGES]}


def columns(pairs, second):
    """[[title, x], ...] as the hub has it."""
    return {"title": [title for title, _ in pairs], second: [x for _, x in pairs]}


def write(folder, name, rows):
    """The rows in a file of the kind its name says."""
    path = folder / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    text = json.dumps(rows) if ".json" in name and ".jsonl" not in name else "".join(json.dumps(r) + "\n" for r in rows)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return path


def read(folder, *rows, name="a.jsonl", layout="auto"):
    return list(read_questions(write(folder, name, list(rows)), layout))


HUB = {
    "id": "5a",
    **ASKED,
    "context": columns(CONTEXT, "sentences"),
    "supporting_facts": columns(FACTS, "sent_id"),
}


@pytest.mark.parametrize(
    ("name", "row", "layout", "answers", "identifier"),
    [
        ("train.json", HOTPOT, "hotpotqa", ("England",), HOTPOT["_id"]),
        ("train.json.gz", HOTPOT, "hotpotqa", ("England",), HOTPOT["_id"]),
        ("hub.jsonl", HUB, "hotpotqa", ("England",), "5a"),
        ("hub.parquet", HUB, "hotpotqa", ("England",), "5a"),
        ("train.json", TWOWIKI, "2wikimultihopqa", ("England",), HOTPOT["_id"]),
        (
            "train.json",
            TWOWIKI | {"answer_id": "Q21", "aliases": ["england", "Eng"]},
            "2wikimultihopqa",
            ("England", "Eng"),
            HOTPOT["_id"],
        ),
        (
            "hub.parquet",
            HUB | {"context": columns(CONTEXT, "content"), "evidences": {"fact": ["Ada"]}},
            "2wikimultihopqa",
            ("England",),
            "5a",
        ),
        (
            "text.parquet",
            TWOWIKI | {field: json.dumps(TWOWIKI[field]) for field in ("context", "supporting_facts", "evidences")},
            "2wikimultihopqa",
            ("England",),
            HOTPOT["_id"],
        ),
        ("train.jsonl", MUSIQUE, "musique", ("England", "the UK"), "2hop__1_2"),
        ("train.jsonl.gz", MUSIQUE, "musique", ("England", "the UK"), "2hop__1_2"),
        ("train.parquet", MUSIQUE, "musique", ("England", "the UK"), "2hop__1_2"),
        ("own.jsonl", GENERIC, "generic", ("England",), "7"),
        ("own.parquet", GENERIC, "generic", ("England",), "7"),
        ("own.JSONL", GENERIC | {"answers": ["UK", "england"]}, "generic", ("England", "UK"), "7"),
    ],
)
def test_every_layout_gives_the_same_question(tmp_path, name, row, layout, answers, identifier):
    path = write(tmp_path, name, [row])
    place = "line 1" if "jsonl" in name.lower() else "row 0"
    expected = AnnotatedQuestion(identifier, ASKED["question"], answers, PASSAGES, f"{path}: {place}", layout)
    assert list(read_questions(path)) == list(read_questions(str(path), layout)) == [expected]
    assert layout_of(row) == layout


@pytest.mark.parametrize(
    ("fields", "answers", "passages"),
    [
        ({"answer": "yes"}, ("yes",), ()),
        ({"answers": "No"}, ("No",), ()),
        ({"answers": ["1", "one", "ONE"], "answer": None}, ("1", "one"), ()),
        ({"answer": ["a", "b"], "aliases": ["c"], "passages": None}, ("a", "b", "c"), ()),
        ({"answer": "a", "passages": []}, ("a",), ()),
        (
            {"answer": "a", "passages": ["One.", {"text": "Two."}, {"title": "T", "text": "Three.", "gold": True}]},
            ("a",),
            (
                QuestionPassage("", "One.", False),
                QuestionPassage("", "Two.", False),
                QuestionPassage("T", "Three.", True, ((0, 6),)),
            ),
        ),
    ],
)
def test_generic_rows_need_little(tmp_path, fields, answers, passages):
    (found,) = read(tmp_path, {"question": "q", **fields})
    assert (found.answers, found.passages, found.id) == (answers, passages, digest("q").hex())


def test_texts_lose_only_their_ends(tmp_path):
    row = {"id": " ", "question": " a \r\n b\n", "answer": "\tx  y ", "passages": ["\r\none\r\n\r\n two \ud800 "]}
    (found,) = read(tmp_path, row)
    assert (found.question, found.answers, found.passages[0].text) == ("a \n b", ("x  y",), "one\n\n two ?")
    assert found.id == digest("a \n b").hex()


def test_sentences_are_joined_with_one_space(tmp_path):
    sentences = ["It is music.", "In France ", "it is.", "\nSo.", "", "Yes."]
    (found,) = read(tmp_path, HOTPOT | {"context": [["T", sentences]], "supporting_facts": []}, name="a.json")
    assert found.passages == (QuestionPassage("T", "It is music. In France it is.\nSo. Yes.", False),)


def test_unanswerable_rows_are_counted_apart(tmp_path):
    unanswerable = {"id": "2hop__1_2", "question": "", "answerable": False, "paragraphs": []}
    without = {name: value for name, value in MUSIQUE.items() if name != "answerable"}
    first, skipped, last = read(tmp_path, MUSIQUE, unanswerable, without)
    assert skipped == Skipped(f"{tmp_path}/a.jsonl: line 2", "unanswerable")
    assert first.answers == last.answers


def lacking(row, field):
    return {name: value for name, value in row.items() if name != field}


def changed(field, **values):
    """The row of MuSiQue or the generic layout with its second passage changed."""
    row = MUSIQUE if field == "paragraphs" else GENERIC
    return row | {field: [row[field][0], row[field][1] | values]}


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        (HOTPOT, [1], r"found \[1\] \(list\), expected an object with a question. Fix: correct or remove it"),
        (HOTPOT, None, r"found None \(NoneType\), expected an object"),
        (HOTPOT, {}, r"question: missing, found no fields. Fix: correct or remove the row"),
        (HOTPOT, lacking(HOTPOT, "question"), r"question: missing, found the fields _id, answer, type, context, "),
        (HOTPOT, HOTPOT | {"question": " \n"}, r"question: empty, expected text. Fix: correct .*; layout hotpotqa"),
        (HOTPOT, HOTPOT | {"question": 3}, r"question: found 3 \(int\), expected text"),
        (HOTPOT, lacking(HOTPOT, "answer"), r"answer: missing"),
        (HOTPOT, HOTPOT | {"answer": ""}, r"answer: empty"),
        (HOTPOT, HOTPOT | {"answer": ["England"]}, r"answer: found \['England'\] \(list\), expected text"),
        (HOTPOT, HOTPOT | {"_id": 1.5}, r"_id: found 1.5 \(float\), expected text"),
        (HUB, HUB | {"id": True}, r"id: found True \(bool\), expected text"),
        (HOTPOT, lacking(HOTPOT, "context"), r"context: missing"),
        (HOTPOT, HOTPOT | {"context": []}, r"context: empty, expected a list"),
        (HOTPOT, HOTPOT | {"context": "Ada was born"}, r"context: found 'Ada was born' \(str\), expected \[\["),
        (HOTPOT, HOTPOT | {"context": ["Ada"]}, r"context: found \['Ada'\] \(list\), expected \[\[title, sentences\]"),
        (HOTPOT, HOTPOT | {"context": [["Ada", "was born"]]}, r"context\[0\]: sentences: found 'was born' \(str\)"),
        (HOTPOT, HOTPOT | {"context": [["Ada", ["was", 3]]]}, r"context\[0\]: sentences: found 3 \(int\)"),
        (HOTPOT, HOTPOT | {"context": [*CONTEXT, ["E", []]]}, r"context\[3\]: sentences: empty, expected a list"),
        (HOTPOT, HOTPOT | {"context": [*CONTEXT, ["E", [" "]]]}, r"context\[3\]: sentences: empty, expected text"),
        (HOTPOT, HOTPOT | {"context": [[None, ["x"]]]}, r"context\[0\]: title: found None"),
        (HOTPOT, lacking(HOTPOT, "supporting_facts"), r"supporting_facts: missing"),
        (HOTPOT, HOTPOT | {"supporting_facts": ["Ada"]}, r"supporting_facts: found \['Ada'\] .* sent_id as lists"),
        (HUB, HUB | {"context": {"title": ["A"]}}, r"context: found \{'title': \['A'\]\} \(dict\), expected"),
        (HUB, HUB | {"context": {"title": ["A"], "sentences": []}}, r"context: found .* as lists of the same length"),
        (HUB, HUB | {"supporting_facts": {"title": [3], "sent_id": [0]}}, r"supporting_facts: title: found 3 \(int\)"),
        (TWOWIKI, TWOWIKI | {"aliases": [4]}, r"aliases: found 4 \(int\), expected text. .*layout 2wikimultihopqa"),
        (MUSIQUE, MUSIQUE | {"answerable": "no"}, r"answerable: found 'no' \(str\), expected true or false"),
        (MUSIQUE, MUSIQUE | {"answer_aliases": {"a": 1}}, r"answer_aliases: found \{'a': 1\} \(dict\), expected text"),
        (MUSIQUE, lacking(MUSIQUE, "paragraphs"), r"paragraphs: missing"),
        (MUSIQUE, MUSIQUE | {"paragraphs": []}, r"paragraphs: empty"),
        (MUSIQUE, MUSIQUE | {"paragraphs": {}}, r"paragraphs: found \{\} \(dict\), expected a list"),
        (MUSIQUE, MUSIQUE | {"paragraphs": ["text"]}, r"paragraphs\[0\]: found 'text' \(str\), expected an object"),
        (MUSIQUE, changed("paragraphs", paragraph_text=" "), r"paragraphs\[1\].paragraph_text: empty, expected text"),
        (MUSIQUE, changed("paragraphs", title=None), r"paragraphs\[1\].title: missing, found the fields idx, title, "),
        (MUSIQUE, changed("paragraphs", is_supporting=None), r"paragraphs\[1\].is_supporting: missing"),
        (MUSIQUE, changed("paragraphs", is_supporting=1), r"is_supporting: found 1 \(int\), expected true or false"),
        (GENERIC, lacking(GENERIC, "answer"), r"answer or answers: missing, found the fields question, id, passages"),
        (GENERIC, GENERIC | {"answer": 42}, r"answer: found 42 \(int\), .*layout generic \(chosen by auto\)"),
        (GENERIC, GENERIC | {"answers": ["x", ""]}, r"answers: empty, expected text"),
        (GENERIC, GENERIC | {"passages": "text"}, r"passages: found 'text' \(str\), expected a list"),
        (GENERIC, GENERIC | {"passages": ["x", ""]}, r"passages\[1\].text: empty, expected text"),
        (GENERIC, GENERIC | {"passages": [3]}, r"passages\[0\]: found 3 \(int\), expected an object"),
        (GENERIC, changed("passages", text=None), r"passages\[1\].text: missing"),
        (GENERIC, changed("passages", gold="yes"), r"passages\[1\].gold: found 'yes' \(str\), expected true or false"),
        (GENERIC, ASKED | {"context": CONTEXT}, r"context: the file's first row lacks this field"),
    ],
)
def test_a_bad_row_is_named_and_reading_goes_on(tmp_path, good, bad, message):
    first, error, last = read(tmp_path, good, bad, good)
    assert isinstance(error, CorpusError)
    assert first.answers == last.answers
    with pytest.raises(CorpusError, match=rf"a\.jsonl: line 2: .*{message}"):
        raise error


def test_a_row_of_a_list_is_named_by_its_number(tmp_path):
    _, error = read(tmp_path, HOTPOT, {}, name="a.json", layout="hotpotqa")
    assert "a.json: row 1: question: missing" in str(error)
    assert "; layout hotpotqa has question, answer, context as" in str(error)


def test_the_first_object_decides(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{{\n3\n{json.dumps(MUSIQUE)}\n")
    broken, number, found = read_questions(path)
    assert "line 1: not JSON" in str(broken)
    assert "line 2: found 3 (int)" in str(number)
    assert (found.layout, found.where) == ("musique", f"{path}: line 3")


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        ({"text": "a document", "title": "T"}, "text, title"),
        ({"question": "q"}, "question"),
        (ASKED | {"context": "plain text"}, "question, answer, context"),
        (dict.fromkeys("abcdefghijklmn"), "a, b, c, d, e, f, g, h, i, j, k, l and 2 more"),
    ],
)
def test_a_file_that_fits_no_layout(tmp_path, row, fields):
    (error,) = read(tmp_path, row, MUSIQUE)
    assert f"a.jsonl: line 1: no layout fits the fields {fields} (hotpotqa has question, answer, context" in str(error)
    assert "musique has question, answer, paragraphs" in str(error)
    assert str(error).endswith("Fix: rename the fields, or name a layout")


def test_named_generic_leaves_other_fields_unread(tmp_path):
    (found,) = read(tmp_path, ASKED | {"context": "plain text"}, layout="generic")
    assert found.passages == ()


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (error,) = read_questions(tmp_path / "a.json", "hotpotqa")
    assert "a.json: cannot be read (JSONDecodeError" in str(error)
    (error,) = read_questions(tmp_path / "none.json")
    assert "none.json: cannot be read (FileNotFoundError" in str(error)
    with pytest.raises(CorpusError, match=r"layout 'hotpot': expected auto, hotpotqa, 2wikimultihopqa, "):
        read_questions(tmp_path / "a.json", "hotpot")


def test_aliases_of_2wikimultihopqa_are_in_the_file_beside_it(tmp_path):
    lines = [
        {"Q_id": "Q21", "aliases": ["ENG", "england"], "demonyms": ["English", ""]},
        {"Q_id": "Q1", "aliases": ["x"]},
    ]
    (tmp_path / "id_aliases.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    known, other, without = TWOWIKI | {"answer_id": "Q21"}, TWOWIKI | {"answer_id": "Q2"}, TWOWIKI
    found = read(tmp_path, known, other, without, name="train.json")
    assert [question.answers for question in found] == [("England", "ENG", "English"), ("England",), ("England",)]
    assert read(tmp_path, HOTPOT | {"answer_id": "Q21"}, name="hotpot.json", layout="hotpotqa")[0].answers == (
        "England",
    )


def test_a_broken_file_of_aliases_is_named(tmp_path):
    (tmp_path / "id_aliases.json").write_text('{"Q_id": "Q21"}\n{"Q_id": \n')
    with pytest.raises(
        CorpusError, match=r"id_aliases.json: line 2: expected an object with Q_id, aliases and demonyms"
    ):
        read(tmp_path, TWOWIKI, name="train.json")
