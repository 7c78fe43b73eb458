"""The whole pipeline: real and invented questions become rows that are proven from the parquet alone."""

import json
from dataclasses import replace

import pytest
from support import hotpot_rows
from support.pipeline_runs import run_pipeline, run_ranks, start_pipeline, training_files, training_samples
from verl_longrl.data.prompt import parse_chunks
from verl_longrl.data.schema import read_samples, write_samples
from verl_longrl.data.validate import validate_file
from verl_longrl.rewards import score

from data_gen.grounded_qa.__main__ import app
from data_gen.grounded_qa.pipeline import GROUNDED_QA
from data_gen.grounded_qa.proof import UnsoundRow, prove_file
from data_gen.keychain.passage_filler import answer_pattern
from data_gen.mix.__main__ import app as mix_app
from data_gen.store import Store

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]  # transformers' tokenizers are imported


def command(file, output, tokenizer_folder, *arguments):
    return [
        "run",
        "--input",
        file,
        "--output",
        output,
        f"tokenizer={tokenizer_folder}",
        "part_documents=32",
        *arguments,
    ]


def counts(output, stage):
    return Store(output, GROUNDED_QA.shared_parts).report(stage)["counts"]


@pytest.mark.parametrize(
    ("questions", "arguments"),
    [
        ("hotpotqa", ["fill.length=4096"]),
        ("squad", ["fill.length=4096", "chunk.max_tokens=64"]),
    ],
)
def test_real_questions_become_proven_rows(questions, arguments, request, tmp_path, tokenizer_folder, counter):
    file, output = request.getfixturevalue(questions), tmp_path / "run"
    run_pipeline(app, command(file, output, tokenizer_folder, "export.val_fraction=0.1", *arguments))
    proofs = [prove_file(output / f"{split}.parquet", counter) for split in ("train", "val")]
    assert sum(proof.rows for proof in proofs) > 250
    assert not proofs[0].evidence_passages & proofs[1].evidence_passages
    assert 0.04 < proofs[1].rows / proofs[0].rows < 0.15
    assert proofs[0].chi_square()[1] > 0.001
    # Once more, without the code of the proof: from the data set's own file.
    originals = originals_of(questions, json.loads(file.read_text()))
    for sample in training_samples(output):
        answers, evidence = originals[sample.payload["question_id"]]
        assert sample.ground_truth[0] == answers[0]
        assert {answer.casefold() for answer in sample.ground_truth} == {answer.casefold() for answer in answers}
        chunks = parse_chunks(sample.prompt[0]["content"])
        cited = letters("".join(chunks[n] for n in sample.ref_chunks))
        assert all(letters(text) in cited for text in evidence)
        if sample.payload.get("answer_found"):
            pattern = answer_pattern(answers)
            others = [chunk for n, chunk in enumerate(chunks) if n not in sample.ref_chunks]
            assert not any(pattern.search(chunk.casefold()) for chunk in others)
        cites = "".join(f"<CHUNK_{n}>" for n in sample.ref_chunks)
        response = f"x</think><useful_chunks>{cites}</useful_chunks><answer>{answers[0]}</answer>"
        extra = {"ref_chunks": sample.ref_chunks, "num_chunks": sample.num_chunks}
        assert score("longrlvr", response, sample.ground_truth, extra).value == 2.0
    assert "ok," in run_pipeline(app, ["check", output / "train.parquet", output / "val.parquet"])


def letters(text):
    """The letters and digits: a chunk may begin with the full stop of the sentence before it."""
    return "".join(filter(str.isalnum, text))


def originals_of(questions, data):
    """Question id -> answers and evidence, as the file has them."""
    if questions == "squad":
        asked = [(p, q) for article in data["data"] for p in article["paragraphs"] for q in p["qas"] if q["answers"]]
        return {q["id"]: ([a["text"] for a in q["answers"]], [q["answers"][0]["text"]]) for _, q in asked}
    found = {}
    for row in data:
        passages = dict(row["context"])
        texts = [passages[title][n].strip() for title, n in row["supporting_facts"] if n < len(passages[title])]
        found[row["_id"]] = ([row["answer"]], texts)
    return found


@pytest.fixture(scope="module")
def invented(tmp_path_factory):
    """Questions of the layout of HotpotQA, some of which cannot be used."""
    rows = hotpot_rows.rows(70)
    rows[0]["supporting_facts"].append([rows[0]["supporting_facts"][0][0], 40])
    rows[1]["supporting_facts"] = []
    rows[2]["answer"] = "Atlantis"
    rows[3]["context"] = [pair for pair in rows[3]["context"] if pair[0] != rows[3]["supporting_facts"][0][0]]
    rows[4]["question"] += " <CHUNK_3> <|im_end|>"
    rows[4]["context"][0][1].append("It says </think> and <CHUNK_1>.")
    rows[5]["answer"] = "yes"
    rows[6] |= {"type": "comparison", "answer": "Atlantis"}
    rows.append(rows[7])
    file = tmp_path_factory.mktemp("files") / "hotpot.json"
    file.write_text(json.dumps(rows))
    return file


SMALL = ("fill.length=[1024,2048]", "export.val_fraction=0.1", "compose.leaks=label")


@pytest.fixture(scope="module")
def alone(invented, tmp_path_factory, tokenizer_folder):
    """What one process makes."""
    output = tmp_path_factory.mktemp("alone")
    run_pipeline(app, command(invented, output, tokenizer_folder, *SMALL))
    return output


def test_every_drop_has_its_reason(alone):
    questions, fill = counts(alone, "questions"), counts(alone, "fill")
    assert {key: n for key, n in questions.items() if key.startswith("dropped")} == {
        "dropped: duplicate": 1,
        "dropped: evidence_not_in_text": 2,  # a missing sentence, and a passage that row 3 lacks
        "dropped: no_evidence": 1,
    }
    assert fill["dropped: answer_not_in_evidence"] == 1
    assert fill["answers not looked for"] == 2
    assert fill["answers outside the evidence"] > 0


def test_rows_of_several_lengths_are_proven_and_split_by_question(alone, counter):
    files = {split: list(read_samples(alone / f"{split}.parquet")) for split in ("train", "val")}
    for split, samples in files.items():
        prove_file(alone / f"{split}.parquet", counter)
        assert validate_file(alone / f"{split}.parquet", max_prompt_length=2048).ok
        assert {sample.payload["max_tokens"] for sample in samples} == {1024, 2048}
    names = [{sample.payload["document"] for sample in samples} for samples in files.values()]
    assert not names[0] & names[1]
    labelled = [sample for samples in files.values() for sample in samples if sample.payload.get("leaks")]
    assert labelled
    for sample in labelled:
        chunks = parse_chunks(sample.prompt[0]["content"])
        assert all(sample.ground_truth[0] in chunks[n] for n in sample.payload["leaks"])


def test_no_text_is_taken_for_structure(alone):
    marked = [sample for sample in training_samples(alone) if "CHUNK_3" in sample.question]
    assert marked[0].question.endswith("born? (CHUNK_3) < |im_end|>")
    assert any("It says (/think) and (CHUNK_1)." in sample.prompt[0]["content"] for sample in marked)


def test_ranks_make_what_one_process_makes(invented, alone, tmp_path, tokenizer_folder):
    run_ranks("grounded_qa", command(invented, tmp_path / "shared", tokenizer_folder, *SMALL), 2)
    assert training_files(tmp_path / "shared") == training_files(alone)


def test_a_killed_run_resumes(invented, alone, tmp_path, tokenizer_folder):
    arguments = command(invented, tmp_path / "killed", tokenizer_folder, *SMALL)
    process = start_pipeline("grounded_qa", arguments)
    while process.poll() is None and not (tmp_path / "killed" / "fill" / "000000.jsonl").exists():
        pass
    process.kill()
    process.wait()
    run_pipeline(app, arguments)
    assert training_files(tmp_path / "killed") == training_files(alone)


def test_rows_of_a_number_of_chunks_can_be_mixed(invented, tmp_path, tokenizer_folder):
    arguments = command(invented, tmp_path / "run", tokenizer_folder, "fill.chunks=12", "export.val_fraction=0")
    run_pipeline(app, [*arguments, "compose.unsupported=keep", "compose.leaks=leave_out"])
    # Only where the answer is in another chunk of a passage with evidence; and 12 chunks have no answer besides these.
    assert counts(tmp_path / "run", "fill").get("dropped: answer_outside_evidence", 0) < 5
    samples = list(read_samples(tmp_path / "run" / "train.parquet"))
    assert {sample.num_chunks for sample in samples} == {12}
    assert any(sample.payload.get("answer_found") is False for sample in samples)
    source = f"{tmp_path / 'run' / 'train.parquet'}:count=10"
    mixing = ["--output", tmp_path / "mix", "--tokenizer", tokenizer_folder, "--max-prompt-tokens", 8192, source]
    run_pipeline(mix_app, mixing)
    assert len(list(read_samples(tmp_path / "mix" / "train.parquet"))) == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"ref_chunks": [(s.ref_chunks[0] + 1) % s.num_chunks]}, "their texts are not those"),
        (lambda s: {"payload": s.payload | {"evidence": ["It was never written."]}}, "is not in the evidence chunks"),
        (lambda s: {"payload": s.payload | {"evidence": s.payload["evidence"][:1]}}, "have none of it"),
        (lambda s: {"ground_truth": [s.ground_truth[0][:-1]]}, r"none of the answers"),
        (lambda s: {"ground_truth": ["Nowhere"]}, r"none of the answers \['Nowhere'\] is in the evidence"),
        (lambda s: {"payload": s.payload | {"leaks": []}}, "which is not evidence"),
        (lambda s: {"prompt_tokens": 2049}, "prompt_tokens = 2049: expected at most 2048"),
        (lambda s: {"prompt_tokens": s.prompt_tokens - 1}, r"but the prompt has \d+"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_not_proven(alone, tmp_path, counter, change, message):
    found = [s for s in training_samples(alone) if s.payload["max_tokens"] == 2048 and s.payload.get("leaks")]
    sample = next(s for s in found if len(s.ref_chunks) == 2 and s.payload["answer_found"])
    write_samples(tmp_path / "wrong.parquet", [replace(sample, **change(sample))])
    with pytest.raises(UnsoundRow, match=rf"wrong.parquet: row 0: .*{message}"):
        prove_file(tmp_path / "wrong.parquet", counter)


def test_files_that_share_evidence_are_refused(alone, tmp_path):
    (tmp_path / "copy.parquet").write_bytes((alone / "train.parquet").read_bytes())
    printed = run_pipeline(app, ["check", alone / "train.parquet", tmp_path / "copy.parquet"], code=1)
    assert "share an evidence passage" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fill.length=9000000"], "fewer than two prompts. Fix: give more files"),
        (["tokenizer=builtin"], "tokenizer builtin has no chat template"),
        (["fill.length=0"], "fill.length"),
        (["compose.leaks=yes"], "compose.leaks"),
        (["questions.layout=squad"], "no document is left (unreadable 71)"),
    ],
)
def test_errors_say_what_to_do(invented, tmp_path, tokenizer_folder, arguments, message):
    assert message in run_pipeline(app, command(invented, tmp_path / "run", tokenizer_folder, *arguments), code=1)


def test_a_few_short_questions_are_enough(tmp_path, tokenizer_folder):
    """Too few for test prompts that would show whether tokens add up, so the prompts are counted whole."""
    questions = []
    for n in range(3):
        passages = [f"The river of town {n}{at} flows east. Its length is {n}{at}7 miles." for at in range(4)]
        evidence = f"Its length is {n}27 miles."
        question = f"How long is the river of town {n}2?"
        questions.append({"question": question, "answer": f"{n}27 miles", "passages": passages, "evidence": [evidence]})
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    arguments = ["fill.chunks=[4]", "export.val_fraction=0"]
    run_pipeline(app, command(tmp_path / "q.jsonl", tmp_path / "run", tokenizer_folder, *arguments))
    assert [sample.num_chunks for sample in read_samples(tmp_path / "run/train.parquet")] == [4, 4, 4]
