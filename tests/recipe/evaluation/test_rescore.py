"""Released outputs of LongRLVR, in their exact layout, are scored under every rule; damage is named."""

import csv
import json
import math
import shutil

import pytest
import typer
from typer.testing import CliRunner

from recipe.longrl.evaluation import rescore
from recipe.longrl.evaluation.statistics import standard_error

MODEL = "tiny_1b"
RULER_PREDICTIONS = [
    # published, submission, answer_or_tail, strict, after_think
    ("Paris?</think><useful_chunks><CHUNK_1></useful_chunks>\n<answer>Paris</answer>", "Paris", (1, 1, 1, 1, 1)),
    ("<answer>PARIS</answer></think>I said it.", "I said it.", (1, 0, 1, 1, 0)),
    ("Maybe Paris</think>Rome", "Rome", (1, 0, 0, 0, 0)),
    ("so</think><useful_chunks>Paris</useful_chunks> in Paris", "Paris", (1, 1, 1, 0, 0)),
    ("<answer>Paris</answer><answer>Rome</answer>", "Rome", (1, 0, 0, 0, 0)),
    ("x</think><answer>Paris</answer> <answer>Pa", "a, \"quoted\"\nline", (1, 0, 1, 1, 1)),
    (None, "", (0, 0, 0, 0, 0)),
    ("Rome", "Rome", (0, 0, 0, 0, 0)),
]  # fmt: skip
RULER_RULES = ("published", "submission", "answer_or_tail", "strict", "after_think")

LONGBENCH_RESPONSES = [
    # difficulty, length, response, judge, then: letter, letter_comp, strict. The key is B.
    ("easy", "short", "t</think><answer>The correct answer is (B)</answer>", True, (1, 1, 1)),
    ("easy", "long", "The correct answer is (A)?</think><answer>The correct answer is **B**</answer>", True, (0, 0, 1)),
    ("hard", "short", "</think>The correct answer is B. No, the correct answer is (C)", True, (1, 1, 1)),
    ("hard", "medium", "It is B", True, (0, 0.25, 0)),
    ("hard", "long", "<answer>The correct answer is (B). The correct answer is (C)</answer>", False, (1, 1, 0)),
    ("easy", "medium", "", False, (0, 0.25, 0)),
]
LONGREASON_PREDICTIONS = [
    # pred, key, then: published, no_tags, strict
    ("<useful_chunks><CHUNK_3></useful_chunks><answer>C</answer>", "C", (1, 1, 1)),
    ("<useful_chunks><CHUNK_3></useful_chunks><answer>B</answer>", "C", (1, 0, 0)),
    ("<answer>The answer is B, not A</answer>", "B", (1, 1, 0)),
    ("It is (D).", "D", (1, 1, 1)),
    ("ABLE", "A", (1, 1, 0)),
    ("", "E", (0, 0, 0)),
]


def write_jsonl(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_ruler_cells(folder):
    """The two cells of a length, with the CSV files that RULER's scripts write."""
    for task in ("qa_1", "qa_2"):
        records = [
            {
                "index": i,
                "pred": pred,
                "outputs": ["Paris", "City of Light"],
                "others": {},
                "truncation": -1,
                "length": 9,
            }
            for i, (pred, _, _) in enumerate(RULER_PREDICTIONS)
        ]
        write_jsonl(folder / f"{task}.jsonl", records)
    with (folder / "submission.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Task", "ID", "Prediction"])
        for task in ("qa_1", "qa_2"):
            writer.writerows([task, i, submitted] for i, (_, submitted, _) in enumerate(RULER_PREDICTIONS))
    (folder / "summary.csv").write_text("0,1,2\nTasks,qa_1,qa_2\nScore,75.0,75.0\nNulls,0/8,0/8\n")


@pytest.fixture
def release(tmp_path):
    """A release of one model, in the parent of eval_results."""
    root = tmp_path / "eval_results"
    for length in rescore.RULER_LENGTHS:
        write_ruler_cells(root / f"RULER/{MODEL}_longrlvr/synthetic/{length}/pred")
    write_jsonl(
        root / f"LongBench/{MODEL}_longrlvr.jsonl",
        [
            {"_id": f"id{i}", "domain": "d", "sub_domain": "s", "difficulty": difficulty, "length": length,
             "question": "q", "choice_A": "a", "choice_B": "b", "choice_C": "c", "choice_D": "d", "answer": "B",
             "response": response, "pred": None, "judge": judge, "gt_text": "b"}
            for i, (difficulty, length, response, judge, _) in enumerate(LONGBENCH_RESPONSES)
        ],
    )  # fmt: skip
    for length in rescore.LONGREASON_LENGTHS:
        write_jsonl(
            root / f"LongReason/{MODEL}_{length}.jsonl",
            [
                {"example_idx": i, "split": length, "response": f"t</think>{pred}", "pred": pred, "answer": key,
                 "judge": True, "context": "c"}
                for i, (pred, key, _) in enumerate(LONGREASON_PREDICTIONS)
            ],
        )  # fmt: skip
    return tmp_path


def per_cent(values):
    return pytest.approx(100 * sum(values) / len(values))


def test_ruler(release):
    models = rescore.rescore(release)["RULER"]
    cells = models[f"{MODEL}_longrlvr"]
    assert list(cells) == [f"{task}/{length}" for length in rescore.RULER_LENGTHS for task in rescore.RULER_TASKS] + [
        "mean"
    ]
    for cell in cells.values():
        assert set(cell) == set(RULER_RULES)
    for rule, values in zip(RULER_RULES, zip(*(scores for *_, scores in RULER_PREDICTIONS), strict=True), strict=True):
        assert cells["qa_1/32768"][rule] == {"n": 8, "score": per_cent(values)}
        assert cells["mean"][rule] == {"n": 48, "score": per_cent(values)}


def test_longbench(release):
    groups = rescore.rescore(release / "eval_results")["LongBench"][f"{MODEL}_longrlvr"]
    assert list(groups) == ["overall", "easy", "hard", "long", "medium", "short"]
    for i, rule in enumerate(("letter", "letter_comp", "strict")):
        values = [scores[i] for *_, scores in LONGBENCH_RESPONSES]
        assert groups["overall"][rule] == {"n": 6, "score": per_cent(values)}
        easy = [scores[i] for difficulty, *_, scores in LONGBENCH_RESPONSES if difficulty == "easy"]
        assert groups["easy"][rule] == {"n": 3, "score": per_cent(easy)}
    assert groups["overall"]["published"] == {"n": 6, "score": per_cent([1, 1, 1, 1, 0, 0])}


def test_longreason(release):
    files = rescore.rescore(release)["LongReason"]
    assert set(files) == {MODEL, *(f"{MODEL}_{length}" for length in rescore.LONGREASON_LENGTHS)}
    for i, rule in enumerate(("published", "no_tags", "strict")):
        values = [scores[i] for *_, scores in LONGREASON_PREDICTIONS]
        assert files[f"{MODEL}_32k"]["overall"][rule] == {"n": 6, "score": per_cent(values)}
        assert files[MODEL]["mean"][rule] == {"n": 18, "score": per_cent(values)}
    assert files[f"{MODEL}_64k"]["C"]["published"] == {"n": 2, "score": 100}
    assert files[f"{MODEL}_64k"]["C"]["no_tags"] == {"n": 2, "score": 50}


def test_errors_are_clustered_by_question(release):
    figures, problems = rescore.read_release(release)
    assert problems == []
    errors = {(figure.file, figure.group, figure.rule): figure.error for figure in figures}
    scores = [scores[2] for *_, scores in LONGREASON_PREDICTIONS]
    assert errors[f"{MODEL}_32k", "overall", "strict"] == pytest.approx(100 * standard_error(scores))
    # The three lengths have the same answers, so they add no information to one of them.
    assert errors[MODEL, "mean", "strict"] == pytest.approx(100 * standard_error(scores))
    assert math.isnan(errors[f"{MODEL}_32k", "D", "strict"])


def run_command(folder, *options):
    app = typer.Typer()
    app.command()(rescore.command)
    return CliRunner().invoke(app, [str(folder), *map(str, options)])


def test_command_prints_one_table_and_writes_the_figures(release, tmp_path):
    result = run_command(release, "--json", tmp_path / "figures.json")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "figures.json").read_text()) == rescore.rescore(release)
    line = next(line for line in result.stdout.splitlines() if "mean" in line and "RULER" in line)
    # Two tasks of 8 questions, whatever the number of lengths: sqrt(0.75 * 0.25 / (16 - 1)) = 0.112.
    assert [part in line for part in (f"{MODEL}_longrlvr", "48", "75.00 ±11.2", "25.00 ±11.2")] == [True] * 4
    assert "100.00 [34, 100]" in next(line for line in result.stdout.splitlines() if "│ short" in line)
    for rule in ("published", "submission", "answer_or_tail", "strict", "after_think", "letter_comp", "no_tags"):
        assert rule in result.stdout
    assert "problem" not in result.stderr


def test_a_folder_that_is_no_release_is_refused(tmp_path):
    result = run_command(tmp_path)
    assert result.exit_code == 1
    assert "holds none of RULER, LongBench and LongReason. Fix:" in result.stderr


def replace_line(path, number, change):
    lines = path.read_text().splitlines()
    lines[number - 1] = change(lines[number - 1])
    path.write_text("\n".join(lines) + "\n", errors="surrogateescape")


def without_field(name):
    return lambda line: json.dumps({key: value for key, value in json.loads(line).items() if key != name})


def with_field(name, value):
    return lambda line: json.dumps({**json.loads(line), name: value})


QA_1 = f"RULER/{MODEL}_longrlvr/synthetic/65536/pred/qa_1.jsonl"
BENCH = f"LongBench/{MODEL}_longrlvr.jsonl"
REASON = f"LongReason/{MODEL}_64k.jsonl"


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        (QA_1, without_field("outputs"), "row 3: outputs is missing, expected a list of texts"),
        (QA_1, with_field("outputs", "Paris"), "row 3: outputs = 'Paris': expected a list of texts"),
        (QA_1, with_field("pred", 3), "row 3: pred = '3': expected text or null"),
        (QA_1, lambda line: line[:20], "row 3: is not JSON"),
        (BENCH, without_field("judge"), "row 3: judge is missing, expected true or false"),
        (BENCH, with_field("answer", "F"), "row 3: answer = 'F': expected a letter from A to D"),
        (BENCH, lambda _: "[]", "row 3: is a list, expected an object"),
        (REASON, without_field("pred"), "row 3: pred is missing, expected text or null"),
        (REASON, lambda _: "[" * 100_000, "row 3: is not JSON"),
        (REASON, lambda _: "\x00", "row 3: is not JSON"),
        (REASON, lambda line: line.replace('"c"', '"\udcff"'), "row 3: is not UTF-8 text (byte "),
    ],
)
def test_a_damaged_row_is_named_and_other_files_are_scored(release, tmp_path, name, change, problem):
    whole = rescore.rescore(release)
    path = release / "eval_results" / name
    replace_line(path, 3, change)
    result = run_command(release, "--json", tmp_path / "figures.json")
    assert result.exit_code == 0
    assert f"{path}: {problem}" in result.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    set_name, damaged = name.split("/")[0], path.stem
    for other in {"RULER", "LongBench", "LongReason"} - {set_name}:
        assert figures[other] == whole[other]
    if set_name == "RULER":
        cells = figures["RULER"][f"{MODEL}_longrlvr"]
        assert set(whole["RULER"][f"{MODEL}_longrlvr"]) - set(cells) == {"qa_1/65536", "mean"}
    else:
        assert set(whole[set_name]) - set(figures[set_name]) == {damaged} | (
            {MODEL} if set_name == "LongReason" else set()
        )


def test_many_damaged_rows_are_counted(release):
    path = release / "eval_results" / BENCH
    path.write_text("\n".join(["{"] * 50))
    _, problems = rescore.read_release(release)
    assert problems[3] == f"{path}: and 47 more rows like these"
    assert len(problems) == 4


def test_a_git_lfs_pointer_is_explained(release):
    path = release / "eval_results" / REASON
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    _, problems = rescore.read_release(release)
    assert problems == [f"{path}: is a Git LFS pointer. Fix: git lfs pull"]


def test_missing_files_are_named(release):
    root = release / "eval_results"
    (root / QA_1).unlink()
    (root / REASON).unlink()
    shutil.rmtree(root / "LongBench")
    figures, problems = rescore.read_release(release)
    assert problems == [
        f"{root / QA_1}: no such file",
        f"{root / REASON}: no such file",
        f"{root / 'LongBench'}: no file of the model {MODEL}",
    ]
    assert {figure.group for figure in figures if figure.set == "RULER"} == {
        f"{task}/{length}" for length in rescore.RULER_LENGTHS for task in rescore.RULER_TASKS
    } - {"qa_1/65536"}


def test_without_submissions_the_other_rules_are_scored(release):
    path = release / "eval_results" / QA_1
    submission = path.with_name("submission.csv")
    submission.unlink()
    figures, problems = rescore.read_release(release)
    assert problems == [f"{submission}: no such file"]
    rules = {figure.rule for figure in figures if figure.group == "qa_1/65536"}
    assert rules == set(RULER_RULES) - {"submission"}
    assert {figure.rule for figure in figures if figure.group == "mean" and figure.set == "RULER"} == rules


def test_a_row_without_submission_is_named(release):
    path = release / "eval_results" / QA_1
    replace_line(path, 8, with_field("index", 77))
    _, problems = rescore.read_release(release)
    assert problems == [f"{path}: row 8: Task = qa_1, ID = 77 is not in submission.csv"]


def test_a_submission_without_its_columns_is_named(release):
    submission = (release / "eval_results" / QA_1).with_name("submission.csv")
    submission.write_text("Task,ID\nqa_1,0\n")
    _, problems = rescore.read_release(release)
    assert problems == [f"{submission}: no column Prediction"]


def test_a_summary_that_disagrees_is_reported(release):
    summary = (release / "eval_results" / QA_1).with_name("summary.csv")
    summary.write_text("0,1,2\nTasks,qa_1,qa_2\nScore,80.0,75.0\nNulls,0/8,0/8\n")
    _, problems = rescore.read_release(release)
    assert problems == [f"{summary}: qa_1 = 80.0: the published rule gives 75.00"]


def test_csv_files_may_be_beside_pred_and_long(release):
    folder = (release / "eval_results" / QA_1).parent
    submission = folder / "submission.csv"
    submission.write_text(submission.read_text().replace('"a, ""quoted""', '"' + "a" * 200_000))
    for name in ("submission.csv", "summary.csv"):
        (folder / name).rename(folder.parent / name)
    _, problems = rescore.read_release(release)
    assert problems == []


def test_a_cell_may_have_more_rows_than_the_others(release):
    folder = (release / "eval_results" / QA_1).parent
    path = folder / "qa_1.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[7] + "\n")
    (folder / "summary.csv").write_text("0,1,2\nTasks,qa_1,qa_2\nScore,66.67,75.0\nNulls,0/9,0/8\n")
    with (folder / "submission.csv").open("a") as file:
        file.write("qa_1,7,Rome\n")
    figures, problems = rescore.read_release(release)
    assert problems == []
    scores = {(figure.group, figure.rule): (figure.n, figure.score) for figure in figures if figure.set == "RULER"}
    assert scores["qa_1/65536", "published"] == (9, pytest.approx(600 / 9))
    # Cells weigh equally, whatever their size.
    assert scores["mean", "published"] == (49, pytest.approx((5 * 75 + 600 / 9) / 6))
