"""Questions about tables are read as MultiTabQA has them or plain, and ask for a table that earns the reward."""

import csv
import io
import json

import pytest
from verl_longrl.rewards import score

from data_gen.answer_templates import render_response
from data_gen.importers.fields import Unusable
from data_gen.importers.tables import MAX_ANSWER, import_tables

SINGERS = {"columns": ["id", "name"], "index": [0, 1], "data": [[1, "Ann, the first"], [2, 'Bo "B" Cy']]}
SONGS = {"columns": ["singer", "year", "price"], "index": [0, 1], "data": [[1, 1999, 1.5], [2, None, 2.0]]}
GOLD = {"columns": ["name", "count(*)"], "index": [0], "data": [["Ann, the first", 1]]}
ROW = {
    "query": "select name, count(*) from singer join song",
    "table_names": ["singer", "song"],
    "tables": [json.dumps(SINGERS), json.dumps(SONGS)],
    "answer": json.dumps(GOLD),
    "source": "select name ... <table_name> : singer col : id | name row 1 : ...",
    "target": "col : name | count(*) row 1 : Ann, the first | 1",
}
SHOWN = """Table singer:
id,name
1,"Ann, the first"
2,"Bo ""B"" Cy"

Table song:
singer,year,price
1,1999,1.5
2,,2.0"""


def earned(sample, answer):
    return score(sample.data_source, render_response(sample.data_source, answer), sample.ground_truth).value


def test_a_row_of_multitabqa():
    sample = import_tables(ROW)
    opened, shown, closed = sample.prompt[0]["content"].partition(SHOWN)
    assert (opened, shown) == ("Read the following tables.\n\n", SHOWN)
    assert f"Give the table that this SQL query returns.\n\n{ROW['query']}\n\n" in closed
    assert '<answer>{"columns": ["name", "count(*)"], "data": [[...], [...]]}</answer>' in closed
    assert sample.ground_truth == {"columns": GOLD["columns"], "data": GOLD["data"]}
    assert (sample.data_source, sample.task) == ("golongrl_table", "golongrl_table")
    assert (earned(sample, GOLD), earned(sample, GOLD | {"data": [["Ann, the first", 2]]})) == (1, 0)
    parsed = list(csv.reader(io.StringIO(shown.split("\n\n")[0])))[1:]
    assert parsed == [["id", "name"], *([str(cell) for cell in row] for row in SINGERS["data"])]


def test_words_come_before_sql_and_chinese_is_asked_in_chinese():
    sample = import_tables(ROW | {"question": "How many songs has who?"})
    assert sample.question == "How many songs has who?"
    assert ROW["query"] not in sample.prompt[0]["content"]
    chinese = import_tables(ROW | {"question": "谁有几首歌？", "language": "Chinese"}).prompt[0]["content"]
    assert chinese.startswith("阅读下面的表格。")
    assert 'columns 依次为 "name"、"count(*)"' in chinese


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ([SINGERS], "Table singer:\nid,name\n1,"),
        ([[{"id": 1, "name": "Ann"}, {"id": 2}]], "Table singer:\nid,name\n1,Ann\n2,\n"),
        ([[[1, True], [2, ["a", "b"]]]], 'Table singer:\n1,true\n2,"[""a"", ""b""]"\n'),
        (["| id | name |\n| 1 | Ann |"], "Table singer:\n| id | name |\n| 1 | Ann |\n"),
        ([SINGERS | {"name": "mine"}, SONGS], "Table mine:\nid,name"),
        ([SINGERS | {"name": "mine"}, SONGS], "Table 2:\nsinger,year"),
    ],
)
def test_tables_are_shown_however_they_are_given(shown, expected):
    row = ROW | {"tables": shown, "table_names": ["singer"]}
    assert expected in import_tables(row).prompt[0]["content"]


@pytest.mark.parametrize(
    "answer", [GOLD, {"header": GOLD["columns"], "rows": GOLD["data"]}, [{"name": "Ann, the first", "count(*)": 1}]]
)
def test_the_answer_is_read_however_it_is_given(answer):
    assert import_tables(ROW | {"answer": answer}).ground_truth == {"columns": GOLD["columns"], "data": GOLD["data"]}


@pytest.mark.parametrize(
    ("fields", "reason", "message"),
    [
        ({"query": None}, "no_query", r"query is None, expected text"),
        ({"tables": None}, "no_tables", r"tables is None, expected a list of tables \(fields found: query"),
        ({"tables": []}, "no_tables", r"tables is \[\]"),
        ({"tables": [" "]}, "unreadable_table", r"a table is ' ', expected columns and data, records, or text"),
        ({"tables": [{"a": 1}]}, "unreadable_table", r"a table is \{'a': 1\}"),
        ({"answer": None}, "no_answer", r"answer is None, expected a table with at least one row"),
        ({"answer": "{"}, "no_answer", r"answer is '\{'"),
        ({"answer": {"columns": ["a"], "data": []}}, "no_answer", r"answer is "),
        ({"answer": [["a", 1]]}, "no_columns", r"expected a table that names its columns"),
        (
            {"answer": {"columns": ["a"], "data": [["x" * MAX_ANSWER]]}},
            "long_answer",
            r"has 16,\d+ characters, more than",
        ),
    ],
)
def test_what_cannot_be_used_has_a_reason(fields, reason, message):
    with pytest.raises(Unusable, match=message) as caught:
        import_tables(ROW | fields)
    assert caught.value.reason == reason
