"""Every bad input has its own message; a good file gets one line and exit 0."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import released_golongrl
from typer.testing import CliRunner
from verl_longrl.data.prompt import grounded_prompt
from verl_longrl.data.validate import app, validate_file, validate_rows


def put(path: str, value):
    """A change of a row: `put("extra_info.ref_chunks", [])`."""

    def change(row: dict) -> None:
        *outer, last = path.split(".")
        for name in outer:
            row = row[name]
        row[last] = value

    return change


def content(text: str):
    return put("prompt", [{"role": "user", "content": text}])


def doc(count: int) -> str:
    return "\n".join(f"<CHUNK_{i}>text {i}</CHUNK_{i}>" for i in range(count))


def in_document(text: str):
    """A change of a row: `text` follows the first chunk's first words."""

    def change(row: dict) -> None:
        message = row["prompt"][0]
        message["content"] = message["content"].replace("Ann owns", f"Ann owns{text}")
        row["extra_info"]["ref_chunks_text"] = None

    return change


BAD_ROWS = {
    "data_source missing": (
        put("data_source", None),
        "data_source: is missing. Fix: write a non-empty string",
    ),
    "data_source unknown": (
        put("data_source", "longrvlr"),
        "data_source = 'longrvlr': no scorer has this name; nearest registered: longrlvr",
    ),
    "prompt is a string": (
        put("prompt", "hello"),
        "prompt = 'hello' (str): wrong value. Fix: write a list of {role, content}",
    ),
    "prompt empty": (put("prompt", []), "prompt: is empty. Fix: write at least one user message"),
    "role unknown": (
        put("prompt", [{"role": "human", "content": "x"}]),
        "prompt[0].role = 'human': unknown role. Fix: use one of",
    ),
    "system not first": (
        put("prompt", [{"role": "user", "content": "x"}, {"role": "system", "content": "x"}]),
        "prompt[1].role = 'system': not the first message",
    ),
    "ends with assistant": (
        put("prompt", [{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}]),
        "prompt[1].role = 'assistant': the last message must be one that the model answers. Fix: end the prompt",
    ),
    "content empty": (content("  "), "prompt[0].content = '  ': no text. Fix: write the text of the message"),
    "truth missing": (put("reward_model.ground_truth", None), "reward_model.ground_truth: is missing"),
    "truth empty": (put("reward_model.ground_truth", " "), "reward_model.ground_truth = ' ': is empty"),
    "truth empty list": (
        put("reward_model", {"ground_truth": []}),
        "reward_model.ground_truth = []: is empty",
    ),
    "truth empty dict": (put("reward_model", {"ground_truth": {"a": ""}}), "ground_truth = {'a': ''}: is empty"),
    "truth without a word": (
        put("reward_model", {"ground_truth": "?!"}),
        "ground_truth = '?!': has nothing to compare. Fix: write a non-empty answer string or a list",
    ),
    "truth a dict where an answer is expected": (
        put("reward_model", {"ground_truth": {"city": "Paris"}}),
        "{'city': 'Paris'}: has nothing to compare. Fix: write a non-empty answer string",
    ),
    "truth a list of lists": (
        put("reward_model", {"ground_truth": [["Paris"]]}),
        "[['Paris']]: has nothing to compare",
    ),
    "question missing": (put("extra_info.question", None), "extra_info.question: is missing. Fix: write the question"),
    "question empty": (put("extra_info.question", " "), "extra_info.question = ' ': no text. Fix: write the question"),
    "truth is a number": (
        put("reward_model", {"ground_truth": 7}),
        "ground_truth = 7 (int): wrong value. Fix: write a string, a list of answers",
    ),
    "truth broken JSON": (
        put("reward_model", {"ground_truth": "[1", "ground_truth_format": "json"}),
        ". Fix: write samples with write_samples",
    ),
    "truth format unknown": (
        put("reward_model.ground_truth_format", "yaml"),
        "ground_truth_format = 'yaml'",
    ),
    "extra_info a string": (put("extra_info", "{}"), "extra_info = '{}' (str): wrong value. Fix: write a struct"),
    "payload not an object": (
        put("extra_info.payload", "[1]"),
        "extra_info.payload is of type list, expected a JSON object",
    ),
    "payload broken": (put("extra_info.payload", "{"), "extra_info.payload: Expecting"),
    "ref_chunks missing": (
        put("extra_info.ref_chunks", None),
        "extra_info.ref_chunks: is missing. Fix: list the ids",
    ),
    "ref_chunks empty": (
        put("extra_info.ref_chunks", []),
        "extra_info.ref_chunks: is empty. Fix: list the ids",
    ),
    "ref_chunks a string": (
        put("extra_info.ref_chunks", "[1, 2]"),
        "extra_info.ref_chunks = '[1, 2]' (str): wrong value. Fix: write a list of integers",
    ),
    "ref_chunks of strings": (
        put("extra_info.ref_chunks", ["1", "2"]),
        "['1', '2'] (list): wrong value. Fix: write a list of int",
    ),
    "ref_chunks repeated": (put("extra_info.ref_chunks", [1, 1]), "ref_chunks = [1, 1]: names a chunk twice"),
    "ref_chunks too high": (
        put("extra_info.ref_chunks", [1, 4]),
        "4 is out of range, the prompt has chunks 0..3",
    ),
    "ref_chunks negative": (put("extra_info.ref_chunks", [-1, 2]), "-1 is out of range"),
    "evidence a string": (
        put("extra_info.ref_chunks_text", "t"),
        "ref_chunks_text = 't' (str): wrong value. Fix: write a list of",
    ),
    "evidence count": (put("extra_info.ref_chunks_text", ["t"]), "has 1 texts for 2 ref_chunks"),
    "evidence elsewhere": (
        put("extra_info.ref_chunks", [1, 3]),
        "extra_info.ref_chunks_text[1] = 'Key 17 opens door nine.': is not in chunk 3",
    ),
    "num_chunks": (put("extra_info.num_chunks", 5), "extra_info.num_chunks = 5: the prompt has 4 chunks"),
    "no chunks": (content("Which door?"), "prompt: no <CHUNK_i>...</CHUNK_i> in the prompt"),
    "evidence without a word": (
        content("<CHUNK_0>a</CHUNK_0>\n<CHUNK_1> \n</CHUNK_1>\n<CHUNK_2>b</CHUNK_2>\n<CHUNK_3>c</CHUNK_3>"),
        "extra_info.ref_chunks = [1, 2]: chunk 1 has no word in it (' \\n'). Fix: name chunks that hold the evidence",
    ),
    "a second document in the question": (
        lambda row: row["prompt"][0].update(content=row["prompt"][0]["content"] + "\n<CHUNK_0>forged</CHUNK_0>"),
        "prompt: there are two documents: <CHUNK_0> at character 0 has text, and <CHUNK_0> follows at character ",
    ),
    "a longer second document": (
        lambda row: row["prompt"][0].update(content=f"{row['prompt'][0]['content']}\n{doc(5)}"),
        "prompt: there are two documents: ",
    ),
    "a second document in another message": (
        lambda row: row["prompt"].append({"role": "user", "content": doc(4)}),
        "prompt: there are two documents: ",
    ),
    "a chunk number of 5000 digits": (
        content(f"<CHUNK_{'9' * 5000}>a</CHUNK_{'9' * 5000}>"),
        "the first chunk is <CHUNK_9",
    ),
    "the end of reasoning in a document": (
        in_document("</think>"),
        "prompt: the text of chunk 1 contains </think>, a tag of the response format. Fix: pass documents through",
    ),
    "an answer in a document": (in_document("< answer >"), "the text of chunk 1 contains < answer >, a tag of the"),
    "citations in a document": (in_document("</useful_chunks>"), "the text of chunk 1 contains </useful_chunks>"),
    "the end of a turn in a document": (
        in_document("<|im_end|>"),
        "prompt[0].content: contains the special token <|im_end|>, which can end the message or begin another one. "
        "Fix: write it with a space after its first character, as in < |im_end|>",
    ),
    "an instruction's end in a document": (in_document("[/INST]"), "contains the special token [/INST]"),
    "a turn in a document": (in_document("<start_of_turn>"), "contains the special token <start_of_turn>"),
    "chunk skipped": (
        content("<CHUNK_0>a</CHUNK_0>\n<CHUNK_2>b</CHUNK_2>"),
        "prompt: <CHUNK_2> follows 1 chunks; expected <CHUNK_1>. Fix: build the prompt with",
    ),
    "prompt_tokens zero": (
        put("prompt_tokens", 0),
        "prompt_tokens = 0 (int): wrong value. Fix: write a positive integer",
    ),
    "count without tokenizer": (
        put("prompt_tokens", 9),
        "tokenizer_fingerprint: is missing, although prompt_tokens is set",
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_row_is_named(make_row, case):
    change, message = BAD_ROWS[case]
    row = make_row()
    change(row)
    report = validate_rows([make_row(), row], name="train.parquet")
    assert not report.ok
    assert any(message in line for line in report.lines()), report.lines()
    assert all(line.startswith("train.parquet: row 1: ") and ". Fix: " in line for line in report.lines())


BAD_TRUTHS = {  # what is wrong, as in `test_golongrl_gold.py`: source, reward_mode, truth, message
    "a table that is no JSON": (
        "multitableqa_pretraining",
        "",
        '{"data": [[1]',
        "ground_truth = {'doc_ids': [], 'golden_label': '{\"",
    ),
    "a table without rows": (
        "golongrl_table",
        "",
        '{"data": []}',
        ': is not a table. Fix: write JSON such as {"columns"',
    ),
    "an unknown task": (
        "longbench_pro",
        "T3.9 Single-Hop QA",
        ["a"],
        "extra_info.reward_mode = 'T3.9 Single-Hop QA': is not one of LongBench Pro's 25 tasks. Fix: write one of "
        "them; the nearest is 'T3.2 Single-Hop Fact QA'",
    ),
    "no task": ("longbench_pro", None, ["a"], "extra_info.reward_mode = None: is not one of"),
    "nothing asked for": ("longbench_pro", "T5.1", [], "asks for nothing. Fix: write a list of texts"),
    "nothing to order": (
        "longbench_pro",
        "T2.1",
        ["a", "A"],
        "['a', 'A']: cannot be ordered. Fix: write at least",
    ),
    "two letters": ("selection", "", "AB", "is not a choice. Fix: write one letter such as 'B'"),
    "no letter": ("custom_mathqa_choice_1", "", "27", "'27': is not a choice"),
    "a bare dict": ("EM", "", {"city": "Paris"}, "{'city': 'Paris'}: has nothing to compare"),
    "no number": ("math_longcot_math_verify", "", "?", "'?': has nothing to compare"),
    "no word": ("Summary", "", ["The end.", "..."], "has a reference without a word. Fix: write text"),
    "no value": ("loongrl_retrieval", "", ["a", " "], "['a', ' ']: has nothing to compare"),
}


@pytest.mark.parametrize("case", BAD_TRUTHS)
def test_a_truth_that_its_scorer_cannot_read_is_named(make_row, case):
    source, mode, truth, message = BAD_TRUTHS[case]
    if source in ("longbench_pro", "multitableqa_pretraining", "selection", "math_longcot_math_verify"):
        items, label = (truth, "") if isinstance(truth, list) else ([], truth)
        truth = {"doc_ids": items, "golden_label": label, "summary": "English"}
    row = make_row() | {"data_source": source, "reward_model": {"ground_truth": truth}}
    row["extra_info"] = {"reward_mode": mode, "question": "q"}
    (line,) = validate_rows([row], name="train.parquet").lines()
    assert message in line
    column = "extra_info.reward_mode" if "reward_mode" in message else "reward_model.ground_truth"
    assert line.startswith(f"train.parquet: row 0: {column} = ")


UNREACHABLE = {  # source, truth, message
    "an article": (
        "longrlvr",
        "the",
        "'the': has only articles, and answers are compared without them. Fix: write the",
    ),
    "several articles": ("loongrl_qa", ["The", "an"], "['The', 'an']: has only articles"),
    "a tag of the response": ("longrlvr", "</answer>", "'</answer>': has nothing to compare"),
    "an answer in its tags": ("longrlvr", "<answer>Paris</answer>", "(two <answer> blocks, expected one)"),
    "reasoning": ("EM", "<think>Paris", "(<think> without </think>: the reasoning never ended)"),
    "the end of reasoning": ("golongrl_summary", "x </think>", "(no answer after the reasoning)"),
    "an item of two lines": ("golongrl_exhaustive", ["a\nb", "c"], "(0.4 of 1)"),
    "an open brace": ("math", "\\frac{1", "(the last \\boxed{ has no closing brace)"),
    "a text that is not read to its end": ("longrlvr", "word " * 3000, "(0 of 1)"),
    "a tower of powers": ("math", "9^9^9^9", "no machine can compute 9^9^9^9: it has more than 100000 digits"),
    "a tower in braces": ("math", "1+\\left(2^{10^{10^{10}}}\\right)", "no machine can compute"),
    "a long power": ("math_longcot_math_verify", "7**9999999", "no machine can compute 7**9999999"),
    "a factorial": ("math", "200000!", "no machine can compute 200000!"),
}


@pytest.mark.parametrize("case", UNREACHABLE)
def test_a_truth_that_no_answer_reaches_is_named(make_row, case):
    source, truth, message = UNREACHABLE[case]
    row = make_row() | {"data_source": source, "reward_model": {"ground_truth": truth}}
    (line,) = validate_rows([row], name="train.parquet").lines()
    assert line.startswith("train.parquet: row 0: reward_model.ground_truth = ")
    assert message in line


REACHABLE = {
    "longrlvr": ["Paris", "A", "a < b", ">=", "5", "x | y", ["the", "Paris"], "no", "C++", "[1, 2]"],
    "loongrl_qa": ["Paris", "f(x) = {1}", "x}", "100%", "a"],
    "loongrl_retrieval": [["12", "a b"], "x"],
    "EM": ["line\nline", "The answer is 5"],
    "golongrl_qa": ["AB", "Paris, France", "A"],
    "golongrl_ranking": [["1. a", "b"], ["f(x)", "f[x]"]],
    "golongrl_table": ['[[null, 1], ["a", 2]]', '{"columns": ["a"], "data": [[1.5], ["</x>"]]}'],
    "math": ["2^{64}", "10^{100}", "x^{100}", "\\frac{1}{2}", "Monday", "Monday!", "20!", "2^{10}3^{5}"],
    "math_dapo": [
        "1^{1^{999999999}}",
        "\\frac{10^{6}}{10^{5}}",
        "(2^{10})^{20}",
        "\\binom{10}{5}",
        "x^{1000}",
        "e^{-x^2}",
    ],
    "golongrl_math": ["3", "\\{1, 2\\}"],
}


@pytest.mark.parametrize("source", REACHABLE)
def test_truths_that_an_answer_reaches_pass(make_row, source):
    truths = REACHABLE[source]
    rows = [make_row() | {"data_source": source, "reward_model": {"ground_truth": truth}} for truth in truths]
    assert validate_rows(rows).problems == []


def test_a_users_scorer_of_the_same_name_has_another_contract(make_row, monkeypatch):
    from verl_longrl.rewards import Score, registry, scorer

    row = make_row() | {"reward_model": {"ground_truth": "</answer>"}}
    assert not validate_rows([row]).ok
    monkeypatch.setattr(registry, "_names", dict(registry._names))
    scorer("longrlvr", replace=True)(lambda *_: Score(0.0))
    assert validate_rows([row]).ok


def test_a_formula_that_is_not_compared_in_time_is_named(make_row):
    truths = ("Monday", "(x+1)^{100000}", "2")
    rows = [make_row() | {"data_source": "math", "reward_model": {"ground_truth": truth}} for truth in truths]
    (line,) = validate_rows(rows).lines()
    assert "row 1: reward_model.ground_truth = '(x+1)^{100000}': the answer cannot be compared as mathematics" in line
    assert "Fix: write a number or formula that a computer can evaluate" in line


def test_special_tokens_are_those_of_the_tokenizer_if_there_is_one(write, make_sample, tokenizer, tmp_path):
    for text, ok_without, ok_with in (("<|im_end|>", False, True), ("a <s> b", True, False), ("<unk>", True, True)):
        path = write(
            [
                make_sample(
                    prompt=grounded_prompt(["a", "b", text], "q"), num_chunks=3, ref_chunks=[0], ref_chunks_text=None
                )
            ]
        )
        assert validate_file(path).ok == ok_without
        assert validate_file(path, tokenizer=tokenizer, cache_dir=tmp_path).ok == ok_with


def test_rows_of_golongrls_release_are_good(tmp_path):
    path = write_table(tmp_path, released_golongrl.rows())
    sources = "EM 2, longbench_pro 50, math_longcot_math_verify 2, multitableqa_pretraining 2, selection 2"
    assert validate_file(path).lines() == [f"{path}: ok, 58 rows ({sources})"]


def test_an_empty_cell_does_not_make_the_truth_empty(make_row):
    row = make_row() | {"data_source": "golongrl_table"}
    row["extra_info"]["ref_chunks"] = None
    row["reward_model"] = {"ground_truth": '[[null, 1], ["a", 2]]', "ground_truth_format": "json"}
    assert validate_rows([row]).ok


def test_a_users_reader_that_raises_is_a_problem_of_the_row(make_row, monkeypatch):
    from verl_longrl.rewards import Score, registry, scorer

    monkeypatch.setattr(registry, "_names", dict(registry._names))
    scorer("t_reads", gold=lambda truth, extra: truth["unit"])(lambda *_: Score(1.0))
    row = make_row() | {"data_source": "t_reads", "reward_model": {"ground_truth": {"value": "5"}}}
    row["extra_info"]["ref_chunks"] = None
    (line,) = validate_rows([row]).lines()
    assert "{'value': '5'}: the scorer of 't_reads' cannot read it (KeyError: 'unit'). Fix: write what that" in line
    row["reward_model"]["ground_truth"]["unit"] = "km"
    assert validate_rows([row]).ok


def test_left_cut_prompt_is_found(make_row):
    """A prompt as verl's left truncation would leave it."""
    row = make_row()
    row["prompt"][0]["content"] = row["prompt"][0]["content"][30:]
    assert "the first chunk is <CHUNK_1>" in validate_rows([row]).lines()[0]


def test_good_rows_and_ungrounded_tasks_pass(make_sample):
    samples = [
        make_sample(0),
        make_sample(1, prompt=[{"role": "system", "content": "s"}, *make_sample().prompt]),
        make_sample(
            2,
            prompt=grounded_prompt(["a", "b"], "q", "Short."),
            ref_chunks=[1],
            ref_chunks_text=None,
            num_chunks=2,
        ),
    ]
    assert validate_rows(samples).lines() == ["rows: ok, 3 rows (longrlvr 3)"]


def test_an_operator_is_an_answer_and_the_index_may_be_missing(make_row):
    row = make_row()
    row["reward_model"]["ground_truth"] = ">="
    row["extra_info"]["index"] = None
    assert validate_rows([row]).ok
    del row["extra_info"]["index"]
    assert validate_rows([row]).ok


def test_scorers_loaded_later_are_known(tmp_path, make_row, monkeypatch):
    """A data source that was refused once is not refused forever."""
    from verl_longrl.rewards import load_scorers, registry

    monkeypatch.setattr(registry, "_names", dict(registry._names))
    row = make_row() | {"data_source": "t_loaded_later"}
    assert "data_source = 't_loaded_later': no scorer has this name" in validate_rows([row]).lines()[0]
    module = tmp_path / "later.py"
    module.write_text(
        "from verl_longrl.rewards import Score, scorer\nscorer('t_loaded_later')(lambda *_: Score(1.0))\n"
    )
    load_scorers([str(module)])
    assert validate_rows([row]).ok


def test_repeated_index_is_a_warning(make_sample):
    report = validate_rows([make_sample(3), make_sample(3)])
    assert report.ok
    assert report.warnings == ["rows: extra_info.index: 1 rows repeat another row's index"]


def write_table(tmp_path, rows, **options) -> str:
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet", **options)
    return str(tmp_path / "data.parquet")


def test_file_missing(tmp_path):
    assert "none.parquet: no such file. Fix: " in validate_file(tmp_path / "none.parquet").lines()[0]


def test_not_parquet(tmp_path):
    (tmp_path / "data.parquet").write_text("hello")
    assert "not a readable parquet file" in validate_file(tmp_path / "data.parquet").lines()[0]


def test_half_a_file(tmp_path, write, make_sample):
    path = tmp_path / "half.parquet"
    path.write_bytes(Path(write([make_sample()])).read_bytes()[:-200])
    assert "not a readable parquet file" in validate_file(path).lines()[0]


def test_damaged_pages(tmp_path, write, make_sample):
    data = bytearray(Path(write([make_sample(i) for i in range(50)])).read_bytes())
    data[40:400] = bytes(360)
    (tmp_path / "damaged.parquet").write_bytes(data)
    assert "cannot be read to its end" in validate_file(tmp_path / "damaged.parquet").lines()[0]


def test_no_rows(tmp_path, make_row):
    pq.write_table(pa.Table.from_pylist([make_row()]).slice(0, 0), tmp_path / "data.parquet")
    assert "no rows. Fix: " in validate_file(tmp_path / "data.parquet").lines()[0]


@pytest.mark.parametrize("column", ["data_source", "prompt", "reward_model"])
def test_missing_column(tmp_path, make_row, column):
    row = make_row()
    del row[column]
    (line,) = validate_file(write_table(tmp_path, [row])).lines()
    assert f"{column}: column is missing (columns: " in line


def test_missing_ground_truth_field(tmp_path, make_row):
    path = write_table(tmp_path, [make_row() | {"reward_model": {"style": "rule"}}])
    assert "reward_model.ground_truth: column is missing" in validate_file(path).lines()[0]


def test_string_typed_ref_chunks_in_a_file(tmp_path, make_row):
    row = make_row()
    row["extra_info"]["ref_chunks"] = "[1, 2]"
    assert (
        "row 0: extra_info.ref_chunks = '[1, 2]' (str): wrong value"
        in validate_file(write_table(tmp_path, [row])).lines()[0]
    )


def test_released_file_is_good_with_a_warning(tmp_path, make_row):
    """No prompt_tokens, no index, one huge row group."""
    row = make_row()
    released = {
        "prompt": row["prompt"],
        "data_source": "longrlvr",
        "reward_model": {"ground_truth": "door nine"},
        "extra_info": {k: row["extra_info"][k] for k in ("question", "ref_chunks", "ref_chunks_text")},
    }
    report = validate_file(write_table(tmp_path, [released] * 200))
    assert report.ok, report.lines()
    assert "row groups hold up to 200 rows, expected at most 128" in report.warnings[0]


def test_over_long_prompts(write, make_sample):
    path = write([make_sample(i, prompt_tokens=100 + i, tokenizer_fingerprint="f") for i in range(3)])
    assert validate_file(path, max_prompt_length=102).ok
    (line,) = validate_file(path, max_prompt_length=101).lines()
    assert (
        "row 2: prompt_tokens = 102: more than max_prompt_length = 101, and a prompt is never truncated. Fix: " in line
    )


def test_unknown_lengths_are_not_taken_for_short(write, make_sample):
    (line,) = validate_file(write([make_sample()]), max_prompt_length=1000).lines()
    assert "prompt_tokens: missing in 1 rows" in line


def test_errors_are_capped_and_counted(make_row):
    rows = [make_row() | {"data_source": "nope"} for _ in range(30)]
    lines = validate_rows(rows, max_errors=5).lines()
    assert len(lines) == 6
    assert lines[-1] == "rows: 25 more problems; show all with --max-errors 0"
    assert len(validate_rows(rows, max_errors=0).lines()) == 30


def test_command_line(tmp_path, write, make_sample):
    good = write([make_sample(i, prompt_tokens=90, tokenizer_fingerprint="f") for i in range(3)])
    done = CliRunner().invoke(app, [good])
    assert done.exit_code == 0
    assert done.stdout == f"{good}: ok, 3 rows (longrlvr 3); prompt tokens mean 90, longest 90\n"

    done = CliRunner().invoke(app, [good, str(tmp_path / "no.parquet"), "--max-prompt-length", "80"])
    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 4


def test_module_runs():
    done = subprocess.run([sys.executable, "-m", "verl_longrl.data.validate", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for text in ("FILE", "--tokenizer", "--max-prompt-length", "--max-errors", "exit 1"):
        assert text in done.stdout
