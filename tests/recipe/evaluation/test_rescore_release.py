"""The whole release, file by file as it is published, with figures that a second, plain reading of the rules gives."""

import csv
import io
import json
import random
import re
from itertools import product
from statistics import fmean

import pytest

from recipe.longrl.evaluation import rescore

MODELS = ("llama31_8b", "qwen2.5_7b_1m", "qwen2.5_14b_1m")
LENGTHS, REASON_LENGTHS, TASKS = (32768, 65536, 131072), ("32k", "64k", "128k"), ("qa_1", "qa_2")
# Of LongReason, the models' names differ, and five of nine files cannot be read.
REASON_NAMES = {
    "llama31_8b": "llama31_8b",
    "qwen2.5_7b_1m": "qwen2.5_7b_1m_longrlvr",
    "qwen2.5_14b_1m": "qwen2.5_14b_1m",
}
UNREADABLE = [("llama31_8b", length) for length in REASON_LENGTHS] + [
    ("qwen2.5_14b_1m", "32k"),
    ("qwen2.5_14b_1m", "64k"),
]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
PIECES = (
    *("<think>", "</think>", "<answer>", "</answer>", "<useful_chunks>", "</useful_chunks>", "<CHUNK_3>", "<CHUNK_12>"),
    *("<answer>Paris</answer>", "<answer>PARIS\r\n</answer>", "</think><answer>The correct answer is (B)</answer>"),
    *("The correct answer is **(C)**.", "The correct answer is D", "the correct answer is (A)", "Paris", "paris"),
    *("Rome", " A ", " B.", "(C)", " D or E"),
    *("é\u2028北京", "\r\n", "\x00\t", "Cite ", "<answer>B</answer>" * 40, "x" * 3000),
)  # fmt: skip


def texts(name, count):
    draw = random.Random(name)
    return ["".join(draw.choices(PIECES, k=draw.randint(0, 9))) for _ in range(count)]


def answer_of(text):
    return (re.findall(r"<answer>(.*?)</answer>", text, re.DOTALL) or [None])[-1]


def tail_of(text):
    return re.sub(r"<useful_chunks>.*?</useful_chunks>", "", text.split("</think>")[-1], flags=re.DOTALL)


def answer_or_tail(text):
    return tail_of(text) if answer_of(text) is None else answer_of(text)


def ruler_rules(row, submitted):
    found = lambda text: any(gold.lower() in (text or "").lower() for gold in row["outputs"])  # noqa: E731
    pred = row["pred"]
    return {
        "published": found(pred),
        "submission": found(submitted),
        "answer_or_tail": found(answer_or_tail(pred)),
        "strict": found(answer_of(pred)),
        "after_think": found(answer_of(pred.split("</think>")[-1])),
    }


def letters(text):
    text = text.replace("*", "")
    return re.findall(r"The correct answer is \(([A-D])\)", text) or re.findall(r"The correct answer is ([A-D])", text)


def longbench_rules(row):
    found, strict = letters(row["response"]), letters(answer_or_tail(row["response"]))
    letter = bool(found) and found[0] == row["answer"]
    return {
        "published": row["judge"],
        "letter": letter,
        "letter_comp": letter if found else 0.25,
        "strict": bool(strict) and strict[-1] == row["answer"],
    }


def longreason_rules(row):
    text, key = row["pred"], row["answer"]
    plain = re.sub(r"<useful_chunks>.*?</useful_chunks>", "", text, flags=re.DOTALL)
    plain = re.sub(r"<CHUNK_\d+>|<answer>|</answer>", "", plain)
    labels = re.findall(r"(?<!\w)[A-E](?!\w)", answer_or_tail(text))
    return {"published": key in text, "no_tags": key in plain, "strict": set(labels) == {key}}


def figures(scored):
    """{rule: {n, score}} of rows under all rules."""
    return {
        rule: {"n": len(scored), "score": pytest.approx(100 * fmean(row[rule] for row in scored))} for rule in scored[0]
    }


def means(cells):
    n = sum(next(iter(cell.values()))["n"] for cell in cells)
    return {
        rule: {"n": n, "score": pytest.approx(fmean(cell[rule]["score"].expected for cell in cells))}
        for rule in cells[0]
    }


def save(path, rows, end):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(json.dumps(row, ensure_ascii=False) + end for row in rows).encode())


def write_ruler(root, expected):
    for model in MODELS:
        cells = expected["RULER"][f"{model}_longrlvr"] = {}
        for length in LENGTHS:
            folder, submitted, summary = root / f"RULER/{model}_longrlvr/synthetic/{length}/pred", [], {}
            for task in TASKS:
                count = 200 if (model, length, task) == ("qwen2.5_14b_1m", 131072, "qa_1") else 100
                rows = [
                    {"index": i, "pred": text, "outputs": ["Paris", "City of Light"], "others": {}, "truncation": -1,
                     "length": length}
                    for i, text in enumerate(texts(f"{model} {length} {task}", count))
                ]  # fmt: skip
                predictions = texts(f"submitted {model} {length} {task}", count)
                submitted += [[task, i, text] for i, text in enumerate(predictions)]
                scored = [ruler_rules(row, text) for row, text in zip(rows, predictions, strict=True)]
                cells[f"{task}/{length}"] = figures(scored)
                summary[task] = round(100 * fmean(row["published"] for row in scored), 2)
                save(folder / f"{task}.jsonl", rows, "\r\n" if model == "llama31_8b" else "\n")
            table = io.StringIO(newline="")
            csv.writer(table).writerows([["Task", "ID", "Prediction"], *submitted])
            (folder / "submission.csv").write_bytes(table.getvalue().encode())
            lines = ["0,1,2", "Tasks,qa_1,qa_2", f"Score,{summary['qa_1']},{summary['qa_2']}", "Nulls,0/100,0/100"]
            (folder / "summary.csv").write_text("\n".join(lines) + "\n")
        cells["mean"] = means(list(cells.values()))


def write_longbench(root, expected):
    for model in MODELS:
        draw, rows = random.Random(model), []
        for i, text in enumerate(texts(f"LongBench {model}", 503)):
            pred, answer = (letters(text) or [None])[0], draw.choice("ABCD")
            row = {"_id": f"{i:x}", "domain": "d", "sub_domain": "s", "difficulty": draw.choice(["easy", "hard"]),
                   "length": draw.choice(["short", "medium", "long"]), "question": "q", "choice_A": "a",
                   "choice_B": "b", "choice_C": "c", "choice_D": "d", "answer": answer, "response": text, "pred": pred,
                   "judge": pred == answer or draw.random() < 0.1}  # fmt: skip
            rows.append(row if pred == answer else {**row, "gt_text": "b"})
        save(root / f"LongBench/{model}_longrlvr.jsonl", rows, "\n")
        groups = {"overall": rows}
        for name, value in product(("difficulty", "length"), ("easy", "hard", "short", "medium", "long")):
            if found := [row for row in rows if row[name] == value]:
                groups[value] = found
        expected["LongBench"][f"{model}_longrlvr"] = {
            group: figures([longbench_rules(row) for row in found]) for group, found in groups.items()
        }


def write_longreason(root, expected, damage):
    for (model, name), length in product(REASON_NAMES.items(), REASON_LENGTHS):
        path, draw = root / f"LongReason/{name}_{length}.jsonl", random.Random(f"{model} {length}")
        if (model, length) in UNREADABLE:
            if damage is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(damage)
            continue
        rows = [
            {"example_idx": i, "split": length, "response": f"t</think>{text}", "pred": text,
             "answer": draw.choice("ABCDE"), "judge": True, "context": "c" * 100}
            for i, text in enumerate(texts(f"{model} {length}", 794))
        ]  # fmt: skip
        save(path, rows, "\n")
        groups = {"overall": rows} | {key: [row for row in rows if row["answer"] == key] for key in "ABCDE"}
        expected["LongReason"][path.stem] = {
            group: figures([longreason_rules(row) for row in found]) for group, found in groups.items()
        }
    files = expected["LongReason"]
    name = REASON_NAMES["qwen2.5_7b_1m"]
    files[name] = {"mean": means([files[f"{name}_{length}"]["overall"] for length in REASON_LENGTHS])}


@pytest.mark.parametrize("damage", [None, "", POINTER], ids=["absent", "empty", "pointer"])
def test_the_whole_release(tmp_path, damage):
    expected, root = {name: {} for name in rescore.SETS}, tmp_path / "eval_results"
    write_ruler(root, expected)
    write_longbench(root, expected)
    write_longreason(root, expected, damage)
    found, problems = rescore.read_release(tmp_path)
    assert rescore.as_json(found) == expected
    assert rescore.rescore(root) == expected
    for name in rescore.SETS:
        assert rescore.rescore(root / name)[name] == expected[name]
    named = {REASON_NAMES[model] + f"_{length}.jsonl" for model, length in UNREADABLE}
    if damage is None:
        # Nothing tells that there should be files of a length, if no file of the model is there.
        named = {"qwen2.5_14b_1m_32k.jsonl", "qwen2.5_14b_1m_64k.jsonl"}
        assert problems.pop() == f"{root / 'LongReason'}: no file of the model llama31_8b"
    assert {problem.partition(": ")[0].rpartition("/")[2] for problem in problems} == named
    assert len(problems) == len(named)


def test_every_rule_decides_some_rows_and_not_others():
    rows = texts("coverage", 400)
    scored = [
        [ruler_rules({"pred": text, "outputs": ["Paris"]}, text) for text in rows],
        [longbench_rules({"response": text, "answer": "B", "judge": i % 2 == 0}) for i, text in enumerate(rows)],
        [longreason_rules({"pred": text, "answer": "C"}) for text in rows],
    ]
    for verdicts in scored:
        rules = list(verdicts[0])
        # As if all that was generated had been submitted, `submission` is `published`.
        assert len({tuple(verdict[rule] for verdict in verdicts) for rule in {*rules} - {"submission"}}) == len(
            {*rules} - {"submission"}
        )
        assert all(0.02 < fmean(verdict[rule] for verdict in verdicts) < 0.98 for rule in rules)
