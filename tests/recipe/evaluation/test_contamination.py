"""What a model knows without the documents, and what its training files share with a set."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import tiny_benchmark

from recipe.longrl.evaluation.__main__ import app
from recipe.longrl.evaluation.contamination import choose_planned, write_overlap
from recipe.longrl.evaluation.plan import ChatCounter, make_plan
from recipe.longrl.evaluation.profiles import SetOptions
from recipe.longrl.evaluation.records import NO_DOCUMENT, Benchmark, Row
from recipe.longrl.evaluation.report import write_report

CLOSED = "sets.capitals.closed_book=true"


def know_paris(body):
    """A reader that knows France's capital by heart and reads the others."""
    hidden = NO_DOCUMENT in body["messages"][0]["content"]
    return tiny_benchmark.know(body) if not hidden or "France" in str(body) else "No idea"


def test_each_row_is_asked_again_without_its_document(evaluate, server, tmp_path):
    server.honest = know_paris
    status, printed, _ = evaluate("run", tmp_path, CLOSED)
    assert status == 0
    without = [body for body in server.bodies if NO_DOCUMENT in body["messages"][0]["content"]]
    # The two lengths of a question differ in their documents alone: without them they are one question.
    assert (len(server.bodies), len(without)) == (6 + 3, 3)
    known = json.loads((tmp_path / "report.json").read_text())["contamination"]["capitals"]["closed_book"]
    figure = known["rules"]["published"]
    assert (known["rule"], known["answers"], known["left_out"]) == ("published", 6, 0)
    assert (figure["b"], figure["a"]) == (1.0, pytest.approx(1 / 3))
    assert figure["difference"] == pytest.approx(2 / 3)
    # Clustered by question: differences of 0, 1 and 1, each twice.
    assert figure["standard_error"] == pytest.approx((2 / 9 / 2) ** 0.5, rel=0.2)
    assert figure["right_without"] == pytest.approx(1 / 3)
    assert (figure["others"]["n"], figure["others"]["mean"]) == (4, 1.0)
    cells = "| capitals | published | 100.00 | 33.33 | 66.67 ["
    assert all(cells in text for text in (printed, (tmp_path / "report.md").read_text()))
    assert "score of the other rows" in (tmp_path / "report.html").read_text()


def test_a_closed_book_resumes_and_can_be_added_to_answers(measure, server, tmp_path):
    server.honest = know_paris
    measure(tmp_path)
    assert len(server.bodies) == 6
    for _ in range(2):
        measure(tmp_path, CLOSED)
        assert len(server.bodies) == 9


def test_a_benchmark_without_a_question_of_its_own_is_refused(evaluate, server, tmp_path, monkeypatch):
    rows = [*tiny_benchmark.rows()]
    bare = Benchmark("bare", lambda samples: (replace(row, closed_book=()) for row in rows), {}, "")
    monkeypatch.setattr(tiny_benchmark, "BENCHMARK", bare)
    status, _, problem = evaluate("plan", tmp_path, CLOSED)
    assert status == 2
    assert "closed_book = true: bare has no question that can be asked without its documents" in problem
    assert "Fix: closed_book=false" in problem


QUESTION = "which # of # the # words # in # the # text # is # the # first"
FRAME = "Read the text and give a short answer to the question that follows it, in one word if you can."


@pytest.fixture
def planned(tmp_path, tokenizer):
    """The folder of a run with a planned set of three rows, r0 to r2, of 50 words each."""

    def make_row(number):
        question = QUESTION.replace("#", f"n{number}")
        messages, closed = (
            ({"role": "user", "content": f"{FRAME}\n{text}\n{question}"},)
            for text in (text_of(number, 0, 50), NO_DOCUMENT)
        )
        return Row(f"r{number}", messages, "x", 8, closed_book=closed, meta={"question": question})

    out = tmp_path / "run"
    make_plan(out / "words", map(make_row, range(3)), ChatCounter(tokenizer), 4096, SetOptions("b"), {"repeats": 1})
    return out


def text_of(number, first, last):
    return " ".join(f"d{number}w{place}" for place in range(first, last))


def overlap_with(planned, file, *texts):
    """The overlap with a training file whose rows have these texts in their prompts."""
    rows = [{"prompt": [{"role": "user", "content": text}], "extra_info": {"index": 7}} for text in texts]
    pq.write_table(pa.Table.from_pylist(rows), file)
    return write_overlap(choose_planned(planned, []), [file])["words"]


def test_the_overlap_names_rows_whose_question_or_context_is_in_training_files(planned, tmp_path):
    question = QUESTION.replace("#", "n1")
    texts = (
        f"{FRAME} Once {text_of(2, 10, 30)} again.",
        f"So: {question.upper()}!",
        f"{FRAME} nothing else",
        text_of(0, 0, 12),
    )
    found = overlap_with(planned, tmp_path / "train.parquet", *texts)
    assert (found["training_rows"], found["training_rows_that_share"]) == (4, 2)
    assert found["question"] == {"rows": 3, "share": pytest.approx(1 / 3), "mean": pytest.approx(1 / 3)}
    # Of the 38 n-grams of 50 words, 20 words in a row repeat 8. Those across the document's ends count, too.
    assert found["context"]["share"] == pytest.approx(1 / 3)
    assert [line["row"] for line in found["worst"]] == ["r1", "r2"]
    assert found["worst"][1]["words"] == text_of(2, 10, 23)
    assert 8 / (38 + 24) <= found["worst"][1]["context"] <= 8 / 38
    assert found == json.loads((planned / "words/overlap.json").read_text())


def test_short_questions_are_compared_whole(tmp_path, tokenizer):
    rows = [
        Row(str(number), ({"role": "user", "content": question},), "x", 8, meta={"question": question})
        for number, question in enumerate(["who was the last of the kings of hull", "is it here and now", "who was it"])
    ]
    make_plan(tmp_path / "run/words", iter(rows), ChatCounter(tokenizer), 4096, SetOptions("b"), {"repeats": 1})
    texts = ("They asked: who was the last of the kings of Hull?", "But is it here and now?", "Who was it?")
    found = overlap_with(tmp_path / "run", tmp_path / "train.parquet", *texts)
    assert (found["question"]["rows"], found["question"]["share"]) == (2, 0.5)
    assert overlap_with(tmp_path / "run", tmp_path / "train.parquet", "Is it here and now?")["question"]["share"] == 0.5


def test_the_command_names_files_and_sets_that_do_not_exist(planned, tmp_path, capsys):
    def overlap(*arguments):
        with pytest.raises(SystemExit) as ended:
            app(["overlap", *map(str, arguments), "--out", str(planned)])
        return ended.value.code, *capsys.readouterr()

    absent, broken = tmp_path / "absent.parquet", tmp_path / "broken.jsonl"
    broken.write_text("{}\n{\n")
    assert overlap(absent) == (2, "", f"training file {absent}: not found. Fix: correct the path\n")
    status, _, problem = overlap(broken)
    assert (status, f"{broken}: line 2: not JSON" in problem) == (2, True)
    broken.write_text("{}\n")
    assert "--sets = wods: not planned in" in overlap(broken, "--sets", "wods")[2]
    status, printed, _ = overlap(broken, "--sets", "words")
    assert (status, "| words | 3 | 0.00 | 0.00 | 0.00 | 0 of 1 |" in printed) == (0, True)


def test_the_report_shows_the_overlap_of_the_rows_that_it_is_about(measure, tmp_path):
    measure(tmp_path)
    write_overlap(choose_planned(tmp_path, ["capitals"]), [tmp_path / "capitals/rows.jsonl"])
    known = write_report(tmp_path)["contamination"]["capitals"]["overlap"]
    assert known["context"]["share"] == 1.0
    assert "| capitals | - | - | - | - | - | - | 100.00 | 100.00 |" in (tmp_path / "report.md").read_text()
    file = tmp_path / "capitals/overlap.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"data_sha256": "of other rows"}))
    assert write_report(tmp_path)["contamination"] == {}
