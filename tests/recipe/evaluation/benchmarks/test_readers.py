"""Readers of downloaded files, on files with the benchmarks' exact fields: rows, rules, and every missing field."""

import json

import pytest
from support.benchmark_files import CONVERSATION, FILES, OWN, options_of, write_rows
from verl_longrl.data.prompt import parse_chunks
from verl_longrl.data.schema import Sample, write_samples

from recipe.longrl.evaluation.benchmarks import mrcr
from recipe.longrl.evaluation.benchmarks.local_files import DataError
from recipe.longrl.evaluation.benchmarks.registry import REGISTRY
from recipe.longrl.evaluation.judge.verdicts import open_question
from recipe.longrl.evaluation.records import NO_DOCUMENT
from recipe.longrl.evaluation.sources import CACHE_VARIABLE

OTHER_FORM = {
    ("longreason", "published"),
    ("longbench_v1_qa", "two_way_published"),
    ("longbench_v1_qa", "two_way_strict"),
    ("docmath_grounded", "published"),
}
"""Rules that read another form of answer than the one above."""


def rows_of(benchmark, path, **options):
    return list(REGISTRY[benchmark].rows(path=str(path), **options_of(benchmark), **options))


@pytest.mark.parametrize("benchmark", FILES)
def test_a_gold_answer_is_right_and_an_empty_one_wrong(benchmark, tmp_path):
    name, values, answer = FILES[benchmark]
    file = write_rows(tmp_path, name, [values])
    (row,) = rows_of(benchmark, tmp_path)
    assert [row] == rows_of(benchmark, file)
    assert row.id
    assert row.max_tokens > 0
    assert json.loads(json.dumps(row.meta)) == row.meta
    for rule_name, rule in REGISTRY[benchmark].rules.items():
        if (benchmark, rule_name) not in OTHER_FORM:
            assert rule(answer, row).score == 1.0, rule_name
        # LongBench v2 compensates an answer without a letter by the value of a guess.
        assert rule("", row).score == (0.25 if rule_name == "compensated" else 0.0), rule_name


@pytest.mark.parametrize("benchmark", [name for name in FILES if REGISTRY[name].judged])
def test_a_judge_is_asked_what_the_rule_leaves_open_without_the_document(benchmark, tmp_path):
    name, values, answer = FILES[benchmark]
    write_rows(tmp_path, name, [values])
    (row,) = rows_of(benchmark, tmp_path)
    judging, rules = REGISTRY[benchmark].judged, REGISTRY[benchmark].rules
    for decided in (answer, "", "<think>never ends"):
        assert open_question(row, decided, rules[judging.rule](decided, row), judging) is None
    text = "I read it all.</think>First, it is so.\nTherefore, the answer is:\n- somebody\n- somebody else"
    question = open_question(row, text, rules[judging.rule](text, row), judging)
    assert question.candidate == "- somebody\n- somebody else"
    assert question.question in str(values.values())
    assert question.reference == " | ".join(map(str, row.gold if isinstance(row.gold, list) else [row.gold]))
    assert row.messages[-1]["content"] not in question.question


def test_corpusqa_decides_that_numbers_differ(tmp_path):
    name, values, _ = FILES["corpusqa"]
    write_rows(tmp_path, name, [values])
    (row,) = rows_of("corpusqa", tmp_path)
    judging, rules = REGISTRY["corpusqa"].judged, REGISTRY["corpusqa"].rules
    for answer, asked in (("41", False), ("a few", True), ("forty-two", False)):
        text = f"The answer is: {answer}"
        assert bool(open_question(row, text, rules[judging.rule](text, row), judging)) == asked


UNUSED = {
    "longbench_v1_qa": {"dataset", "language", "all_classes"},
    "longreason": {"question", "background", "analysis"},
    "docmath": {"source", "original_question_id", "python_solution"},
    "docmath_grounded": {"source", "original_question_id", "python_solution"},
    "longbench_pro": {"question_thinking"},
}


OTHER_KINDS = (None, True, [], {"x": 1}, [{"x": 1}])
"""Values that fields may not have."""
ALSO_RIGHT = {"table_evidence": [], "paragraph_evidence": [], "wiki_items": [], "ground_truth": True}
"""Which of them a field may have after all."""


@pytest.mark.parametrize(
    ("benchmark", "field"), [(name, field) for name, (_, values, _) in FILES.items() for field in values]
)
def test_a_missing_field_is_named_with_file_and_row(benchmark, field, tmp_path):
    name, values, _ = FILES[benchmark]
    broken = {key: value for key, value in values.items() if key != field}
    # Parquet has one schema: there the file lacks the column.
    rows = [broken] if name.endswith(".parquet") else [values, broken]
    file = write_rows(tmp_path, name, rows)
    if field in UNUSED.get(benchmark, ()):
        assert len(rows_of(benchmark, tmp_path)) == len(rows)
        return
    place = f"{file}: line 2" if name.endswith(".jsonl") else f"{file}: row {len(rows) - 1}"
    with pytest.raises(DataError) as error:
        rows_of(benchmark, tmp_path)
    assert str(error.value).startswith(f"{place}: {field}: missing, expected ")
    assert "Fix: use the benchmark's own file; this row has the fields" in str(error.value)


@pytest.mark.parametrize(
    ("benchmark", "field"),
    [(name, field) for name, (_, values, _) in FILES.items() for field in values if field not in UNUSED.get(name, ())],
)
def test_a_field_of_another_kind_is_named_with_file_and_row(benchmark, field, tmp_path):
    name, values, _ = FILES[benchmark]
    for number, value in enumerate(OTHER_KINDS):
        if value == ALSO_RIGHT.get(field, "none"):
            continue
        file = write_rows(tmp_path / str(number), name, [{**values, field: value}])
        with pytest.raises(DataError) as error:
            rows_of(benchmark, file.parent)
        place = f"{file}: line 1" if name.endswith(".jsonl") else f"{file}: row 0"
        assert str(error.value).startswith(f"{place}: {field}: found "), value
        assert ", expected " in str(error.value)


@pytest.mark.parametrize(
    ("benchmark", "field", "items"),
    [
        ("frames", "wiki_items", [None, 7, "text", {}, {"title": "x", "text": None}, {"title": 7, "text": "x"}]),
        ("corpusqa", "prompt", [None, 7, "text", {}, {"role": "user", "content": None}, {"content": "x"}]),
        ("docmath", "paragraphs", [None, 7, {}, ["nested"]]),
        ("docmath", "table_evidence", [None, "0", {}, True, 0.5]),
        ("longbench_v1_qa", "answers", [None, 7, {}]),
        ("longbench_pro", "answer", [None, 7, {}]),
    ],
)
def test_an_item_of_another_kind_is_named_with_file_and_row(benchmark, field, items, tmp_path):
    name, values, _ = FILES[benchmark]
    for item in items:
        file = write_rows(tmp_path, name, [{**values, field: [*values[field], item]}])
        with pytest.raises(DataError) as error:
            rows_of(benchmark, tmp_path)
        assert f"{file}: " in str(error.value)
        assert f": {field}: found " in str(error.value)


@pytest.mark.parametrize("item", [None, 7, "text", {}, {"role": "user"}, {"role": "user", "content": 7}])
def test_mrcr_messages_of_another_kind_are_named(item, tmp_path):
    name, values, _ = FILES["mrcr"]
    file = write_rows(tmp_path, name, [{**values, "prompt": json.dumps([*CONVERSATION, item])}])
    with pytest.raises(DataError, match=r"row 0: prompt: found .* expected a JSON list of messages") as error:
        rows_of("mrcr", file.parent.parent)
    assert str(file) in str(error.value)


DOCUMENTS = {
    "longbench_v2": "The text with",
    "longbench_v1_qa": "An article.",
    "longreason": "Background.",
    "frames": "Born 1801.",
    "docmath": "Rent 3.",
    "docmath_grounded": "Rent 3.",
    "corpusqa": "Documents ...",
    "longbench_pro": "A text.",
}
"""Texts of the documents that only an open book shows."""


@pytest.mark.parametrize("benchmark", FILES)
def test_a_closed_book_has_the_question_without_the_documents(benchmark, tmp_path):
    name, values, _ = FILES[benchmark]
    write_rows(tmp_path, name, [values])
    (row,) = rows_of(benchmark, tmp_path)
    if benchmark == "mrcr":
        assert row.closed_book == ()
        return
    asked, closed = (" ".join(each["content"] for each in messages) for messages in (row.messages, row.closed_book))
    assert DOCUMENTS[benchmark] in asked
    assert DOCUMENTS[benchmark] not in closed
    assert row.meta["question"] in closed
    assert (NO_DOCUMENT in closed) == (benchmark != "longbench_v2")
    assert all(option in closed for option in row.meta.get("options", {}).values())


@pytest.mark.parametrize("benchmark", FILES)
def test_without_files_the_message_says_where_to_get_them(benchmark, tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"^path = .*: has no file .*\. Fix: download .* give its folder as options"):
        list(REGISTRY[benchmark].rows(**options_of(benchmark)))
    name, values, _ = FILES[benchmark]
    write_rows(tmp_path / "cache" / benchmark.removesuffix("_grounded"), name, [values])
    assert len(list(REGISTRY[benchmark].rows(**options_of(benchmark)))) == 1


@pytest.mark.parametrize("benchmark", ["longbench_v1_qa", "longreason", "mrcr", "docmath", "corpusqa"])
def test_a_file_of_another_name_and_an_unknown_task_are_refused(benchmark, tmp_path):
    name, values, _ = FILES[benchmark]
    file = write_rows(tmp_path, f"mine.{name.rpartition('.')[2]}", [values])
    with pytest.raises(DataError, match=r"mine.* expected a file named"):
        rows_of(benchmark, file)
    with pytest.raises(DataError, match=r"tasks = T9: unknown. Fix: use some of"):
        list(REGISTRY[benchmark].rows(path=str(tmp_path), tasks=["T9"]))


@pytest.mark.parametrize(
    ("benchmark", "field", "value", "expected"),
    [
        ("longbench_v2", "answer", "E", "found 'E', expected one of A, B, C, D"),
        ("longbench_v2", "context", None, "found None, expected a text"),
        ("longbench_v1_qa", "answers", [], "found [], expected a list of texts"),
        (
            "longreason",
            "prompt",
            "no options here",
            "found 'no options here', expected a prompt that ends",
        ),
        ("longreason", "answer", "E", "a prompt that ends with options"),
        ("mrcr", "prompt", "not json", "found 'not json', expected a JSON list of messages with role and content"),
        ("mrcr", "answer", "Foxes run.", "expected a text that begins with random_string_to_prepend = 'a1b2c3d4e5'"),
        ("frames", "wiki_items", [{"title": "x"}], "expected a list of articles with title and text"),
        ("docmath", "paragraph_evidence", [7], "found [7], expected places in the 3 paragraphs"),
        ("docmath", "ground_truth", "31", "found '31', expected a number, or true or false"),
        ("corpusqa", "prompt", [{"role": "user"}], "expected a list of messages with role and content"),
        ("longbench_pro", "token_length", "12k", "found '12k', expected one of 8k, 16k, 32k, 64k, 128k, 256k"),
    ],
)
def test_a_value_of_another_kind_is_shown(benchmark, field, value, expected, tmp_path):
    name, values, _ = FILES[benchmark]
    write_rows(tmp_path, name, [{**values, field: value}])
    with pytest.raises(DataError) as error:
        rows_of(benchmark, tmp_path)
    assert expected in str(error.value)


def test_a_broken_line_is_named(tmp_path):
    (tmp_path / "test.jsonl").write_text('{"Prompt": \n')
    with pytest.raises(DataError, match=r"test.jsonl: line 1"):
        rows_of("frames", tmp_path)
    (tmp_path / "test.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match=r"test.jsonl: line 1: found \[1\], expected an object"):
        rows_of("frames", tmp_path)


def test_longbench_v2_fills_its_prompt_in_one_pass(tmp_path):
    name, values, _ = FILES["longbench_v2"]
    write_rows(tmp_path, name, [values])
    (row,) = rows_of("longbench_v2", tmp_path)
    assert row.messages == (
        {
            "role": "user",
            "content": "Please read the following text and answer the question below.\n\n<text>\nThe text with $Q$ and "
            "{braces}.\n</text>\n\nWhat is the correct answer to this question: Which one, $DOC$ or {x}?\nChoices:\n"
            "(A) north\n(B) south\n(C) east\n(D) west\n\n"
            'Format your response as follows: "The correct answer is (insert answer here)".',
        },
    )
    (closed,) = rows_of("longbench_v2", tmp_path, prompt="closed_book")
    assert "The text with" not in closed.messages[0]["content"]
    assert closed.messages[0]["content"].startswith("What is the correct answer to this question: Which one")
    assert (row.gold, row.cell, row.meta["difficulty"]) == ("B", "short", "easy")


def test_longbench_v1_has_the_official_prompts_and_limits(tmp_path):
    name, values, _ = FILES["longbench_v1_qa"]
    write_rows(tmp_path, name, [values])
    write_rows(tmp_path, "data/musique.jsonl", [values])
    article, passages = REGISTRY["longbench_v1_qa"].rows(path=str(tmp_path), tasks=["qasper", "musique"])
    assert article.messages[0]["content"].endswith(
        'or "unanswerable". Do not provide any explanation.\n\nQuestion: Which model?\n\nAnswer:'
    )
    assert (
        "\n\nArticle: An article.\n\n Answer the question based on the above article as concisely"
        in (article.messages[0]["content"])
    )
    assert passages.messages[0]["content"] == (
        "Answer the question based on the given passages. Only give me the answer and do not output any other words."
        "\n\nThe following are given passages.\nAn article.\n\nAnswer the question based on the given passages. Only "
        "give me the answer and do not output any other words.\n\nQuestion: Which model?\nAnswer:"
    )
    assert (article.max_tokens, passages.max_tokens) == (128, 32)
    (qwenlong,) = rows_of("longbench_v1_qa", tmp_path, prompt="qwenlong")
    assert qwenlong.messages[0]["content"] == (
        "Please read the following text and answer the question below.\n\n<text>\nAn article.\n</text>\n\nWhich model?"
        '\n\nFormat your response as follows: "Therefore, the answer is (insert answer here)".'
    )


def test_longreason_rows_are_of_the_lengths_asked_for(tmp_path):
    _, values, _ = FILES["longreason"]
    for split in ("expanded", "8k", "32k"):
        write_rows(tmp_path, f"data/{split}-00000-of-00001.parquet", [values])
    rows = list(REGISTRY["longreason"].rows(path=str(tmp_path), lengths=[8192, 32768], revision="abc"))
    assert [(row.cell, row.length, row.cluster) for row in rows] == [("8k", 8192, "17"), ("32k", 32768, "17")]
    assert rows[0].meta["options"] == {"A": "one", "B": "two", "C": "three", "D": "four"}
    assert rows[0].meta["revision"] == "abc"


@pytest.mark.parametrize(
    ("tokens", "length"),
    [(4095, None), (4096, 8192), (8192, 8192), (8193, 16384), (1 << 20, 1 << 20), ((1 << 20) + 1, None)],
)
def test_mrcr_bins_are_closed_on_the_right_and_the_first_on_both_sides(tokens, length):
    assert mrcr.bin_of(tokens) == length


def test_mrcr_sends_the_conversation_and_refuses_the_older_files(tmp_path):
    name, values, _ = FILES["mrcr"]
    write_rows(tmp_path, name, [values])
    (row,) = rows_of("mrcr", tmp_path)
    assert list(row.messages) == CONVERSATION
    # Four texts of 1,500 tokens: three messages and the answer.
    assert (row.cell, row.length, row.position) == ("2needle/8192", 8192, 0.25)
    assert rows_of("mrcr", tmp_path, lengths=[16384]) == []
    write_rows(tmp_path, "2needle.parquet", [values])
    with pytest.raises(DataError, match=r"2needle.parquet: the layout from before 2025-12-05. Fix: download"):
        rows_of("mrcr", tmp_path)


def test_frames_rows_without_text_are_in_a_cell_of_their_own(tmp_path):
    name, values, _ = FILES["frames"]
    write_rows(tmp_path, name, [values, {**values, "wiki_items": []}])
    with_text, without = rows_of("frames", tmp_path)
    assert "<text>\nJane\nBorn 1801.\nAnn\nBorn 1802.\n</text>" in with_text.messages[0]["content"]
    assert (with_text.cell, without.cell) == ("with_text", "without_text")


def test_docmath_has_its_own_prompt_and_a_grounded_one_with_evidence(tmp_path):
    name, values, _ = FILES["docmath"]
    write_rows(tmp_path, name, [values, {**values, "table_evidence": [], "paragraph_evidence": []}])
    first, second = rows_of("docmath", tmp_path)
    assert [message["role"] for message in first.messages] == ["system", "user"]
    assert first.messages[1]["content"] == (
        "Rent 3.\n|a|31|\nOther.\n\nQuestion: What is the change, in million?\n\n"
        "Let's think step by step to answer the given question."
    )
    assert (first.gold, first.max_tokens, first.position, second.position) == (-31.0, 512, 0.25, None)
    (grounded,) = rows_of("docmath_grounded", tmp_path)
    assert parse_chunks(grounded.messages[0]["content"]) == values["paragraphs"]
    assert grounded.evidence == (0, 1)


def test_longbench_pro_rows_are_selected_by_length_task_and_kind_of_model(tmp_path):
    name, values, _ = FILES["longbench_pro"]
    write_rows(tmp_path, name, [values, {**values, "id": "b2", "token_length": "64k"}])
    assert [row.id for row in rows_of("longbench_pro", tmp_path, lengths=[65536])] == ["b2"]
    assert rows_of("longbench_pro", tmp_path, tasks=["T4"]) == []
    thinking, _ = rows_of("longbench_pro", tmp_path)
    plain, _ = rows_of("longbench_pro", tmp_path, thinking=False)
    assert thinking.messages[0]["content"] == "A text.\n\n\n\nQ now"
    assert plain.messages[0]["content"] == "A text.\n\n\n\nQ, think"


def test_corpusqa_rows_of_one_corpus_are_one_cluster(tmp_path):
    name, values, _ = FILES["corpusqa"]
    corpus = "x" * 30_000
    prompts = [[{"role": "user", "content": f"{corpus} {question}"}] for question in ("How many?", "Who?")]
    write_rows(tmp_path, name, [{**values, "id": f"financial_en_{n}", "prompt": p} for n, p in enumerate(prompts)])
    first, second = rows_of("corpusqa", tmp_path)
    assert first.cluster == second.cluster
    assert (first.cell, first.length) == ("financial_en/128k", 131072)


def test_rows_of_our_own_are_scored_as_in_training(tmp_path):
    plain = Sample("loongrl_qa", [{"role": "user", "content": "Who?"}], ["Ann"], 1, question="Who?")
    write_samples(tmp_path / "held_out.parquet", [OWN, plain])
    first, second = REGISTRY["own_parquet"].rows(path=str(tmp_path))
    assert first.closed_book[0]["content"] == f"{NO_DOCUMENT}\n\nQuestion: How many has Bob?\n\nAnswer."
    assert second.closed_book == ()
    assert (first.evidence, first.position, first.cell, second.cell) == ((1,), 1.0, "longrlvr", "loongrl_qa")
    reward = REGISTRY["own_parquet"].rules["reward"]
    right = "Bob.</think><useful_chunks><CHUNK_1></useful_chunks><answer>4</answer>"
    outcome = reward(right, first)
    # 2 in training; a figure's scores are from 0 to 1.
    assert (outcome.parts["recall"], outcome.score) == (1.0, 1.0)
    assert outcome.score > reward(right.replace("CHUNK_1", "CHUNK_0"), first).score > reward("", first).score
    assert reward(r"So.</think>\boxed{Ann}", second).score == 1.0


def test_a_row_of_our_own_that_training_refuses_is_refused(tmp_path):
    rows = [{"data_source": "loongrl_qa", "prompt": [{"role": "user", "content": "Who?"}], "reward_model": {}}]
    file = write_rows(tmp_path, "x.jsonl", rows)
    with pytest.raises(DataError, match=r"x.jsonl: line 1: reward_model.* Fix: see python -m verl_longrl.data"):
        list(REGISTRY["own_parquet"].rows(path=str(file)))


def test_every_benchmark_has_rules_and_a_summary():
    for name, benchmark in REGISTRY.items():
        assert benchmark.name == name
        assert benchmark.rules
        assert benchmark.summary
