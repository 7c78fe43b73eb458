"""Evidence is the characters that the data set names, whatever its layout, and what cannot be placed is named."""

import itertools
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_gen.document_readers import CorpusError
from data_gen.question_readers.fields import clean, move_to_clean
from data_gen.question_readers.question import AnnotatedQuestion, Skipped, merge_spans
from data_gen.question_readers.read import layout_of, read_questions


def read(folder, rows, name="a.json", layout="auto"):
    path = folder / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows) if name.endswith(".json") else "\n".join(map(json.dumps, rows)))
    return list(read_questions(path, layout))


def evidence(question):
    """The texts of a question's evidence, by passage."""
    assert isinstance(question, AnnotatedQuestion), question
    return [[passage.text[start:end] for start, end in passage.evidence] for passage in question.passages]


@given(st.text(alphabet="ab \r\n\t", max_size=12), st.data())
def test_spans_follow_a_text_that_is_cleaned(raw, data):
    start, end = sorted((data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, len(raw)))))
    ((first, last),) = move_to_clean(raw, [(start, end)])
    assert 0 <= first <= last <= len(clean(raw))
    assert clean(raw)[first:last].split() == raw[start:end].split()


@given(st.text(alphabet="ab ", max_size=20), st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=4))
def test_merged_spans_are_apart_and_cover_the_same_words(text, spans):
    spans = [(min(pair), max(pair)) for pair in spans if max(pair) <= len(text)]
    merged = merge_spans(text, spans)
    covered = {n for start, end in spans for n in range(start, end) if text[n] != " "}
    assert covered == {n for start, end in merged for n in range(start, end) if text[n] != " "}
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in merged)
    assert all(text[a[1] : b[0]].strip() for a, b in itertools.pairwise(merged))


HOTPOT = {
    "question": "Who?",
    "answer": "Bo",
    "type": "comparison",
    "context": [["T", [" One ends.", "Two goes on. ", " ", "Three."]], ["U", ["Four."]], ["V", ["A."]], ["V", ["B."]]],
}


@pytest.mark.parametrize(
    ("facts", "found", "unplaced"),
    [
        ([["T", 0]], ["One ends."], []),
        ([["T", 1], ["T", 0]], ["One ends. Two goes on."], []),
        ([["T", 0], ["T", 3]], ["One ends.", "Three."], []),
        ([["T", 3], ["T", 2]], ["Three."], ["supporting_facts: T has no sentence 2"]),
        (
            [["T", 9], ["T", -1]],
            [],
            ["supporting_facts: T has no sentence 9", "supporting_facts: T has no sentence -1"],
        ),
        ([["T", 0], ["W", 0]], ["One ends."], ["supporting_facts: 0 passages are named W"]),
        ([["T", 0], ["V", 0]], ["One ends."], ["supporting_facts: 2 passages are named V"]),
    ],
)
def test_sentences_of_hotpotqa(tmp_path, facts, found, unplaced):
    (question,) = read(tmp_path, [HOTPOT | {"supporting_facts": facts}])
    assert evidence(question)[0] == found
    assert list(question.unplaced) == unplaced
    assert question.passages[0].gold  # its title is named
    assert question.comparison


PARAGRAPH = " In 1066 the Normans, under William, landed.\r\nThey won in 1066. "
ANSWERS = [{"text": "1066", "answer_start": 4}, {"text": "William", "answer_start": 28}]
FLAT = {"id": "q1", "question": "When?", "context": PARAGRAPH, "title": "The_Normans"}
ARTICLE = {
    "title": "The_Normans",
    "paragraphs": [{"context": PARAGRAPH, "qas": [{"id": "q1", "question": "When?", "answers": ANSWERS}]}],
}
HUB_ANSWERS = {"text": ["1066", "William"], "answer_start": [4, 28]}


@pytest.mark.parametrize(
    ("name", "rows", "place"),
    [
        ("dev.json", {"version": "v2.0", "data": [ARTICLE]}, "row 0: data[0].paragraphs[0].qas[0]"),
        ("articles.jsonl", [ARTICLE], "line 1: paragraphs[0].qas[0]"),
        ("hub.parquet", [FLAT | {"answers": HUB_ANSWERS}], "row 0"),
        ("flat.jsonl", [FLAT | {"answers": ANSWERS}], "line 1"),
    ],
)
def test_every_form_of_squad(tmp_path, name, rows, place):
    (question,) = read(tmp_path, rows, name)
    assert (question.layout, question.where) == ("squad", f"{tmp_path / name}: {place}")
    assert (question.answers, question.id, question.group) == (("1066", "William"), "q1", "The Normans")
    assert question.passages[0].evidence == ((3, 7),)  # the first of the two, in the text without its first space
    assert evidence(question) == [["1066"]]


@pytest.mark.parametrize("fields", [{"answers": []}, {"answers": HUB_ANSWERS, "is_impossible": True}])
def test_questions_of_squad_that_cannot_be_answered(tmp_path, fields):
    first, skipped = read(tmp_path, [FLAT | {"answers": ANSWERS}, FLAT | fields])
    assert evidence(first) == [["1066"]]
    assert skipped == Skipped(f"{tmp_path / 'a.json'}: row 1", "unanswerable")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"answers": [{"text": "1067", "answer_start": 4}]},
            r"answers\[0\].answer_start: the text at 4 is '1066'",
        ),
        ({"answers": [{"text": "1066", "answer_start": -4}]}, r"answers\[0\].answer_start: the text at -4"),
        ({"answers": [{"text": "1066"}]}, r"answers\[0\].answer_start: missing"),
        ({"answers": {"text": ["1066"], "answer_start": []}}, r"answers: found .*lists of the same length"),
        ({"answers": ANSWERS, "context": 3}, r"context: found 3 \(int\), expected text"),
    ],
)
def test_errors_of_squad_name_the_field(tmp_path, fields, message):
    good = FLAT | {"answers": ANSWERS}
    _, error, last = read(tmp_path, [good, good | fields, good])
    assert isinstance(last, AnnotatedQuestion)
    with pytest.raises(CorpusError, match=rf"a.json: row 1: {message}.*Fix: .*layout squad \(chosen by auto\)"):
        raise error


def test_a_damaged_article_does_not_hide_the_next(tmp_path):
    error, question = read(tmp_path, {"data": [{"title": "T", "paragraphs": [{"qas": 3}]}, ARTICLE]})
    assert "row 0: data[0]: paragraphs[0].qas: found 3 (int), expected a list" in str(error)
    assert evidence(question) == [["1066"]]


PAGE = "<P> The car ( a Trabant ) was made in Zwickau , Saxony . </P> <P> Yes . </P>"
WORDS = PAGE.split(" ")
LONG = {"start_token": 0, "end_token": 15, "candidate_index": 0}
SHORT = {"start_token": 10, "end_token": 13}
NONE = {"start_token": -1, "end_token": -1, "candidate_index": -1}


def annotated(short=(SHORT,), long=LONG, answer="NONE"):
    return {"long_answer": long, "short_answers": list(short), "yes_no_answer": answer, "annotation_id": 1}


NQ = {
    "example_id": 7,
    "question_text": "where was it made",
    "document_text": PAGE,
    "annotations": [annotated()],
}
TOKENS = [{"token": word, "html_token": word[0] == "<", "start_byte": 0, "end_byte": 0} for word in WORDS]
ORIGINAL = {name: value for name, value in NQ.items() if name != "document_text"} | {
    "document_title": "Trabant",
    "document_tokens": TOKENS,
}
HUB_NQ = {
    "id": "7",
    "question": {"text": "where was it made", "tokens": []},
    "document": {
        "title": "Trabant",
        "tokens": {"token": WORDS, "is_html": [word[0] == "<" for word in WORDS]},
    },
    "annotations": {
        "id": ["1"],
        "long_answer": [LONG],
        "short_answers": [{"start_token": [10], "end_token": [13], "text": ["Zwickau, Saxony"]}],
        "yes_no_answer": [-1],
    },
}


@pytest.mark.parametrize(("name", "row"), [("a.jsonl", NQ), ("a.jsonl", ORIGINAL), ("a.parquet", HUB_NQ)])
def test_every_form_of_natural_questions(tmp_path, name, row):
    (question,) = read(tmp_path, [row], name)
    assert (question.layout, question.id, question.question) == ("natural_questions", "7", "where was it made")
    assert question.answers == ("Zwickau, Saxony",)
    assert question.passages[0].text == "The car (a Trabant) was made in Zwickau, Saxony.\nYes."
    assert evidence(question) == [["Zwickau, Saxony"]]
    assert question.passages[0].title == ("" if row is NQ else "Trabant")


@pytest.mark.parametrize(
    ("annotations", "answers", "found"),
    [
        ([annotated(short=(), answer="YES")], ("yes",), ["The car (a Trabant) was made in Zwickau, Saxony."]),
        (
            [annotated(short=(SHORT | {"end_token": 11}, {"start_token": 12, "end_token": 13}))],
            ("Zwickau, Saxony",),
            ["Zwickau", "Saxony"],
        ),
        ([annotated((), NONE), annotated(), annotated([{"start_token": 10, "end_token": 11}])],
         ("Zwickau, Saxony", "Zwickau"), ["Zwickau, Saxony"]),
        ([annotated((), answer="YES"), annotated((), answer="NO")], None, "annotators_disagree"),
        ([annotated((), NONE)], None, "unanswerable"),
        ([], None, "unanswerable"),
        ([annotated((), LONG), annotated((), NONE)], None, "no_short_answer"),
    ],
)  # fmt: skip
def test_annotations_of_natural_questions(tmp_path, annotations, answers, found):
    (question,) = read(tmp_path, [NQ | {"annotations": annotations}], layout="natural_questions")
    if answers is None:
        assert question.reason == found
    else:
        assert (question.answers, evidence(question)) == (answers, [found])


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (
            annotated([{"start_token": 9, "end_token": 99}]),
            r"short_answers\[0\]: found tokens 9 to 99, expected .*<= 19",
        ),
        (annotated(answer="MAYBE"), r"annotations\[0\].yes_no_answer: found 'MAYBE' \(str\), expected YES, NO or NONE"),
        (annotated(long=3), r"annotations\[0\].long_answer: found 3 \(int\), expected an object"),
    ],
)
def test_errors_of_natural_questions_name_the_field(tmp_path, annotation, message):
    (error,) = read(tmp_path, [NQ | {"annotations": [annotation]}])
    with pytest.raises(CorpusError, match=message):
        raise error


ABSTRACT, FIRST, SECOND = "We parse.", "We use the Penn Treebank, and CoNLL.", "It works. It is fast."


def answered(**fields):
    empty = {"unanswerable": False, "extractive_spans": [], "yes_no": None, "free_form_answer": "", "evidence": []}
    return {"answer": empty | fields, "annotation_id": "a"}


EXTRACTED = answered(extractive_spans=["Penn Treebank", "CoNLL"], evidence=[FIRST])
PAPER = {
    "title": "Parsing",
    "abstract": ABSTRACT,
    "full_text": [{"section_name": "Data", "paragraphs": [FIRST, ""]}, {"section_name": None, "paragraphs": [SECOND]}],
    "qas": [{"question": "Which data?", "question_id": "q", "answers": [EXTRACTED]}],
}
HUB_PAPER = {
    "id": "1909.1",
    "title": "Parsing",
    "abstract": ABSTRACT,
    "full_text": {"section_name": ["Data", None], "paragraphs": [[FIRST, ""], [SECOND]]},
    "qas": {
        "question": ["Which data?"],
        "question_id": ["q"],
        "answers": [{"answer": [EXTRACTED["answer"]], "annotation_id": ["a"]}],
    },
}


@pytest.mark.parametrize(
    ("name", "rows", "place"),
    [
        ("train.json", {"1909.1": PAPER}, "row 0: 1909.1.qas[0]"),
        ("train.jsonl", [PAPER], "line 1: qas[0]"),
        ("hub.parquet", [HUB_PAPER], "row 0: qas[0]"),
    ],
)
def test_every_form_of_qasper(tmp_path, name, rows, place):
    (question,) = read(tmp_path, rows, name)
    assert (question.layout, question.id, question.where) == ("qasper", "q", f"{tmp_path / name}: {place}")
    assert question.answers == ("Penn Treebank, CoNLL",)
    assert question.passages[0].title == "Parsing"
    assert question.passages[0].text == f"{ABSTRACT}\n\nData\n\n{FIRST}\n\n{SECOND}"
    assert evidence(question) == [[FIRST]]


@pytest.mark.parametrize(
    ("answers", "accepted", "found", "unplaced"),
    [
        ([answered(yes_no=False, evidence=["It is fast."])], ("no",), ["It is fast."], 0),
        (
            [answered(free_form_answer="A corpus.", evidence=[FIRST, SECOND])],
            ("A corpus.",),
            [f"{FIRST}\n\n{SECOND}"],
            0,
        ),
        ([answered(unanswerable=True), EXTRACTED], ("Penn Treebank, CoNLL",), [FIRST], 0),
        ([answered(yes_no=True, evidence=["FLOAT SELECTED: Table 1"])], ("yes",), [], 1),
        ([answered(yes_no=True, evidence=["It"])], ("yes",), [], 1),  # which is twice in the text
        ([answered(yes_no=True, evidence=["FLOAT"]), answered(yes_no=True, evidence=[SECOND])], ("yes",), [SECOND], 0),
    ],
)
def test_answers_of_qasper(tmp_path, answers, accepted, found, unplaced):
    (question,) = read(tmp_path, {"p": PAPER | {"qas": [{"question": "q", "answers": answers}]}})
    assert (question.answers, evidence(question), len(question.unplaced)) == (accepted, [found], unplaced)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([answered(unanswerable=True)], "unanswerable"),
        ([answered(yes_no=True, evidence=[SECOND]), answered(yes_no=False, evidence=[SECOND])], "annotators_disagree"),
        ([answered(yes_no=True)], "no_evidence"),
    ],
)
def test_questions_of_qasper_that_are_skipped(tmp_path, answers, reason):
    (skipped,) = read(tmp_path, {"p": PAPER | {"qas": [{"question": "q", "answers": answers}]}})
    assert skipped == Skipped(f"{tmp_path / 'a.json'}: row 0: p.qas[0]", reason)


def test_a_damaged_paper_does_not_hide_the_next(tmp_path):
    error, question = read(tmp_path, {"p": PAPER | {"qas": {"question": ["a"], "answers": []}}, "q": PAPER})
    assert "row 0: p: qas: found" in str(error)
    assert evidence(question) == [[FIRST]]


OWN = {"question": "Who?", "answer": "Bo"}
TEXTS = [{"id": "x", "title": "T", "text": " Bo ran. Al ran. "}, {"id": "y", "text": "Al sat. Bo sat."}]


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"document": "Bo ran. Al ran.", "evidence": [[0, 7]]}, [["Bo ran."]]),
        ({"document": {"text": " Bo ran.\r\n Al ran.", "evidence": [[11, 18]]}}, [["Al ran."]]),
        ({"documents": TEXTS, "evidence": [[[1, 8]], []]}, [["Bo ran."], []]),
        ({"documents": TEXTS, "evidence": [[[1, 8]], [[0, 7], [8, 15]]]}, [["Bo ran."], ["Al sat. Bo sat."]]),
        ({"passages": TEXTS, "evidence": ["Al ran.", "Bo sat."]}, [["Al ran."], ["Bo sat."]]),
        ({"passages": TEXTS, "evidence": ["y"]}, [[], ["Al sat. Bo sat."]]),
        ({"passages": ["Bo ran.", "Al ran."], "evidence": [1]}, [[], ["Al ran."]]),
        ({"passages": [TEXTS[0] | {"gold": True}, TEXTS[1]]}, [["Bo ran. Al ran."], []]),
        ({"passages": [TEXTS[0] | {"evidence": ["Bo"], "gold": True}, TEXTS[1]]}, [["Bo"], []]),
        ({"passages": [TEXTS[0] | {"evidence": [[1, 3]]}, TEXTS[1]], "evidence": ["sat. Bo"]}, [["Bo"], ["sat. Bo"]]),
        ({"document": "Bo ran."}, [[]]),
    ],
)
def test_every_form_of_evidence_in_own_rows(tmp_path, fields, found):
    (question,) = read(tmp_path, [OWN | fields])
    assert (question.layout, evidence(question)) == ("generic", found)
    assert [passage.gold for passage in question.passages] == list(map(bool, found))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"passages": TEXTS, "evidence": ["ran."]}, r"evidence\[0\]: 'ran.' \(str\) occurs 2 times, expected once"),
        ({"passages": TEXTS, "evidence": ["Cy"]}, r"evidence\[0\]: 'Cy' \(str\) occurs 0 times.*or correct it"),
        ({"document": "Bo", "evidence": [[0, 3]]}, r"evidence\[0\]: found \[0, 3\] \(list\), .*end <= 2"),
        ({"document": "Bo", "evidence": [[0, True]]}, r"evidence\[0\]: found \[0, True\]"),
        ({"passages": TEXTS, "evidence": [[0, 3]]}, r"evidence: found \[\[0, 3\]\] \(list\), expected a list of spans"),
        ({"passages": TEXTS, "evidence": [[0, 3], [0, 3]]}, r"evidence: found .* for each of the 2 texts"),
        ({"passages": TEXTS, "evidence": [[0, 3], "Bo sat."]}, r"evidence\[0\]: found \[0, 3\] .*, a span"),
        ({"passages": TEXTS, "evidence": [4]}, r"evidence\[0\]: found 4 \(int\), expected the id or number of a text"),
        ({"passages": [TEXTS[0], TEXTS[0]], "evidence": ["x"]}, r"id 'x': several texts of the row have it"),
        ({"passages": [TEXTS[0] | {"evidence": ["sat"]}]}, r"passages\[0\].evidence\[0\]: 'sat' .* occurs 0 times"),
        ({"passages": TEXTS, "document": "x"}, r"passages and document: expected only one of passages, documents, "),
        ({"document": 3}, r"document: found 3 \(int\), expected an object"),
    ],
)  # fmt: skip
def test_errors_of_own_rows_name_the_field(tmp_path, fields, message):
    good = OWN | {"passages": ["x"]}
    _, error, last = read(tmp_path, [good, OWN | fields, good], "a.jsonl")
    assert isinstance(last, AnnotatedQuestion)
    with pytest.raises(CorpusError, match=rf"a.jsonl: line 2: {message}.*layout generic \(chosen by auto\)"):
        raise error


@pytest.mark.parametrize(
    ("row", "layout"),
    [(FLAT | {"answers": ANSWERS}, "squad"), (ARTICLE, "squad"), (NQ, "natural_questions"), ({"p": PAPER}, "qasper")],
)
def test_layouts_are_recognised(row, layout):
    assert layout_of(row) == layout
