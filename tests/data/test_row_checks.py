"""Every bad row has its own message; a good one has none."""

from __future__ import annotations

import pytest
from verl_longrl.data.prompt import grounded_prompt
from verl_longrl.data.validate import validate_rows


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
