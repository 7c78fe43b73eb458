"""Known rollouts give known numbers, to the digit, whichever kind of source they come from."""

import json

import pytest
import yaml
from typer.testing import CliRunner
from verl_longrl.data.schema import Sample, write_samples
from verl_longrl.rewards.score import Score
from verl_longrl.trainer.rollout_log import RolloutLog

from data_gen.diagnose.__main__ import app
from data_gen.diagnose.failure_modes import Response, failure_mode
from data_gen.multitask.pipeline import MULTITASK

RIGHT = Score(1.0, {"answer": 1.0, "recall": 1.0, "precision": 1.0, "format": 1.0})
WRONG = Score(0.0, {"answer": 0.0, "format": 1.0})
HALF = Score(0.5, {"answer": 0.5, "recall": 0.5, "precision": 1.0, "format": 1.0})
CUT = Score(0.0, {}, "truncated", "cut at the length limit: no [Answer] after the reasoning")
HUNG = Score(0.0, {}, "timeout", "the scorer took longer")


def diagnose(output, *arguments, code=0):
    done = CliRunner().invoke(app, ["--output", str(output), *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output


def report(output):
    return json.loads((output / "report.json").read_text())


def learnable(*prompts):
    """The mean over prompts; a prompt is the list of what its responses earn."""
    means = [sum(answers) / len(answers) for answers in prompts]
    variances = [sum((a - p) ** 2 for a in answers) / len(answers) for answers, p in zip(prompts, means, strict=True)]
    return sum(27 / 4 * v * (1 - p) for v, p in zip(variances, means, strict=True)) / len(prompts)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (Response(1.0, "ok", recall=1.0, precision=1.0), "right"),
        (Response(1.0, "ok"), "right"),
        (Response(0.0, "truncated", "cut at the length limit: <think> without </think>"), "truncated"),
        (Response(0.0, "format_error", "<think> without </think>: the reasoning never ended"), "no_think"),
        (Response(0.0, "format_error", "no [Answer] after the reasoning", text="I think and think"), "no_think"),
        (Response(0.0, "format_error", "no [Answer] after the reasoning", text="So.</think>It is 3."), "no_answer"),
        (Response(0.0, "format_error", "no [Answer] after the reasoning"), "no_answer"),
        (Response(0.9, "ok", recall=1.0, precision=0.9), "near_miss"),
        (Response(0.3, "ok", recall=1.0, precision=1.0), "wrong_order"),
        (Response(0.0, "ok", recall=1.0, precision=1.0), "wrong_order"),  # a list in reversed order
        (Response(0.4, "ok", recall=0.25, precision=1.0), "incomplete"),
        (Response(0.0, "ok", recall=0.25, precision=0.5), "incomplete"),  # where only all of it counts
        (Response(0.4, "ok", recall=1.0, precision=0.25), "dumping"),
        (Response(0.5, "ok", recall=0.5, precision=0.5), "partly_right"),
        (Response(0.5, "ok"), "partly_right"),
        (Response(0.0, "ok"), "wrong"),
        (Response(None, "timeout"), "failed"),
    ],
)
def test_modes(response, expected):
    assert failure_mode(response) == expected


@pytest.fixture
def run(tmp_path):
    """A training run: three steps, groups of four, with a group that was filtered out and a last line cut off."""
    folder = tmp_path / "run"
    log = RolloutLog(folder / "rollouts")
    facts = {"a": (5000, "easy"), "b": (70000, "hard"), "c": (None, None)}
    about = [(name, {"prompt_tokens": tokens, "difficulty": level}) for name, (tokens, level) in facts.items()]
    prompts = dict(zip(facts, log.add_prompts(about), strict=True))
    steps = [
        [("a", "golongrl_exhaustive", [RIGHT, RIGHT, HALF, WRONG]), ("c", "golongrl_qa", [RIGHT] * 4)],
        [("b", "golongrl_exhaustive", [CUT, WRONG, WRONG, HUNG])],
        [("b", "golongrl_exhaustive", [RIGHT, HUNG, HUNG, WRONG]), ("c", "golongrl_qa", [HUNG] * 4)],
    ]
    for step, groups in enumerate(steps, 1):
        rows = []
        for name, task, scores in groups:
            for n, score in enumerate(scores):
                parts = score.metrics()
                parts["score"] = parts.pop("reward")
                about = {"task": task, "status": score.status, "reason": score.reason, "own_parts": {}}
                row = {"uid": f"{step}-{name}", "rollout": n, "prompt": prompts[name], "response": "So.</think>x"}
                rows.append({**row, **parts, **about})
        log.write_step("train", step, rows)
    filtered = {"filtered": 3.0, "filtered_all_right": 2.0, "filtered_all_wrong": 1.0}
    metrics = [
        {"split": "train", "step": 1, **{f"task/golongrl_exhaustive/{key}": value for key, value in filtered.items()}},
        {"split": "val", "step": 1, "task/golongrl_exhaustive/filtered": 9.0},
        {"split": "train", "step": 2, "task/golongrl_exhaustive/filtered": 0.0},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics) + '{"split": "tra')
    return folder, prompts


def test_a_training_run(run, tmp_path):
    folder, prompts = run
    printed = diagnose(tmp_path / "out", folder)
    found = report(tmp_path / "out")
    earned = [[1.0, 1.0, 0.5, 0.0], [0.0] * 3, [1.0, 0.0]]  # of exhaustive, without what has no score
    mean = (2.5 / 4 + 0.0 + 0.5) / 3
    exhaustive = {"prompts": 3, "pass_rate": pytest.approx(mean, abs=1e-12), "solved": 0, "unsolved": 1}
    exhaustive |= {"learnable": pytest.approx(learnable(*earned), abs=1e-12), "unscored": 0}
    qa = {"prompts": 1, "pass_rate": 1.0, "learnable": 0.0, "solved": 1, "unsolved": 0, "unscored": 1}
    assert found["by_task"] == {"golongrl_exhaustive": exhaustive, "golongrl_qa": qa}
    assert list(found["by_length"]) == ["4K-8K", "64K-128K", "unknown"]
    assert found["by_length"]["64K-128K"]["pass_rate"] == 0.25
    assert {name: row["prompts"] for name, row in found["by_difficulty"].items()} == {
        "easy": 1,
        "hard": 2,
        "unknown": 1,
    }
    crossed = found["by_task_and_length"]
    assert {task: list(row) for task, row in crossed.items()} == {
        "golongrl_exhaustive": ["4K-8K", "64K-128K"],
        "golongrl_qa": ["unknown"],
    }
    a, b, c = (prompts[name] for name in "abc")
    assert found["failure_modes"]["golongrl_exhaustive"] == {
        "right": {"responses": 3, "examples": [f"1:{a}", f"3:{b}"]},
        "truncated": {"responses": 1, "examples": [f"2:{b}"]},
        "incomplete": {"responses": 1, "examples": [f"1:{a}"]},
        "wrong": {"responses": 4, "examples": [f"1:{a}", f"2:{b}", f"3:{b}"]},
        "failed": {"responses": 3, "examples": [f"2:{b}", f"3:{b}"]},
    }
    assert found["failure_modes"]["golongrl_qa"]["failed"] == {"responses": 4, "examples": [f"3:{c}"]}
    assert found["filtered_groups"] == {"golongrl_exhaustive": {"groups": 3, "all_right": 2, "all_wrong": 1}}
    weights = {"qa": 0.25, "exhaustive": round(0.25 + 1.75 * learnable(*earned, [0], [0], [1]), 3)}
    assert found["next_weights"] == weights
    assert MULTITASK.config.load(tmp_path / "out" / "next.yaml", []).assign.weights == weights
    assert f" assign.weights.qa=0.25 assign.weights.exhaustive={weights['exhaustive']}\n" in printed
    text = (tmp_path / "out" / "report.md").read_text()
    assert f"| golongrl_exhaustive | 3 | {mean:.3f} | {learnable(*earned):.3f} | 0 | 1 | 0 |" in text
    assert f"| golongrl_exhaustive | wrong | 4 | 33.3% | 1:{a} 2:{b} 3:{b} |" in text
    assert (tmp_path / "out" / "plots.png").stat().st_size > 10_000


def test_the_last_steps_of_a_run(run, tmp_path):
    diagnose(tmp_path / "out", run[0], "--last-steps", "2")
    found = report(tmp_path / "out")
    assert found["by_task"]["golongrl_exhaustive"]["prompts"] == 2
    assert found["by_task"]["golongrl_qa"] | {"unscored": 0} == {
        **dict.fromkeys(("prompts", "solved", "unsolved", "unscored"), 0),
        **dict.fromkeys(("pass_rate", "learnable")),
    }
    assert found["filtered_groups"] == {}
    assert list(found["next_weights"]) == ["exhaustive"]  # of qa nothing is known


def difficulty_row(document, *samples, **more):
    """A row of the stage difficulty; samples: (task, tokens, level, scores of the small model)."""
    made = []
    for n, (task, tokens, level, scores) in enumerate(samples):
        responses = [
            {"server": "small", "reward": s.value, "status": s.status, "reason": s.reason, "parts": s.parts}
            for s in scores
        ]
        responses += [{**one, "server": "large", "status": "request_failed", "reward": None} for one in responses[:1]]
        about = {"id": f"{document}/compose-{n}", "task": task, "prompt_tokens": tokens}
        rates = {"small": 0.5, "large": None} if scores else {}
        made.append(about | {"level": level, "rates": rates, "responses": responses})
    return {"id": document, "samples": made, **more}


def test_a_stage_difficulty_and_what_comes_next(run, tmp_path):
    folder = tmp_path / "data"
    (folder / "difficulty").mkdir(parents=True)
    rows = [
        difficulty_row("d1", ("qa", 800, "unanswered", [RIGHT, WRONG]), ("table", 4096, "easy", [RIGHT, RIGHT])),
        difficulty_row(
            "d2", ("summary", 3000, "not_asked", []), ("qa", 2047, "insufficient", [WRONG, WRONG]), drop="no_sample"
        ),
    ]
    (folder / "difficulty" / "000000.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.yaml").write_text("seed: 3\nassign: {weights: {qa: 9, ranking: 0.5}, per_document: 2}\n")
    diagnose(tmp_path / "out", folder)
    found = report(tmp_path / "out")
    assert {task: row["pass_rate"] for task, row in found["by_task"].items()} == {
        "golongrl_qa": 0.25,
        "golongrl_table": 1.0,
    }
    assert list(found["by_length"]) == ["<1K", "1K-2K", "4K-8K"]
    assert {name: row["prompts"] for name, row in found["by_difficulty"].items()} == {
        **dict.fromkeys(("easy", "insufficient", "unanswered"), 1)
    }
    assert found["failure_modes"]["golongrl_qa"]["wrong"] == {
        "responses": 3,
        "examples": ["d1/compose-0", "d2/compose-1"],
    }
    weights = {"qa": round(0.25 + 1.75 * learnable([1.0, 0.0], [0.0, 0.0]), 3), "table": 0.25}
    assert yaml.safe_load((tmp_path / "out" / "next.yaml").read_text()) == {
        "seed": 3,
        "assign": {"weights": {"ranking": 0.5, **weights}, "per_document": 2},
    }
    diagnose(tmp_path / "both", folder, run[0])  # together: qa's prompts of both
    assert report(tmp_path / "both")["by_task"]["golongrl_qa"]["prompts"] == 3


def test_hard_mining(tmp_path):
    samples = [
        Sample("loongrl_qa", [{"role": "user", "content": "?"}], "x", n, payload=payload, prompt_tokens=1000 * 4**n)
        for n, payload in enumerate(({"difficulty": "hard"}, {}, {}))
    ]
    data = tmp_path / "train.parquet"
    write_samples(data, samples)
    gone = f"{tmp_path / 'gone.parquet'} (12 bytes)"
    asked = {"files": [f"{data} ({data.stat().st_size} bytes)", gone]}
    answers = {"task": "loongrl_qa", "answers": [1.0, 0.0], "statuses": ["ok", "ok"]}
    lines = [
        {"file": 0, "row": 1, **answers, "statuses": ["ok", "timeout"], "responses": None},  # asked again below
        {"file": 0, "row": 0, **answers, "responses": ["</think>x", "</think>y"]},
        {"file": 0, "row": 2, "task": "loongrl_qa", "too_long": 99},
        {"file": 1, "row": 5, **answers, "statuses": ["ok", "format_error"], "responses": ["</think>x", "y"]},
        {"file": 0, "row": 1, **answers, "answers": [0.0, 0.0], "responses": None},
    ]
    mining = tmp_path / "mining"
    mining.mkdir()
    (mining / "asked.json").write_text(json.dumps(asked))
    (mining / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"file": 0')
    printed = diagnose(tmp_path / "out", mining)
    assert "there are no tasks of data_gen.multitask" in printed
    assert not (tmp_path / "out" / "next.yaml").exists()
    found = report(tmp_path / "out")
    rates = {name: (row["prompts"], row["pass_rate"]) for name, row in found["by_length"].items()}
    assert rates == {"<1K": (1, 0.5), "2K-4K": (1, 0.0), "unknown": (1, 0.5)}
    assert found["by_difficulty"]["hard"]["prompts"] == 1
    modes = {name: entry["examples"] for name, entry in found["failure_modes"]["loongrl_qa"].items()}
    assert modes == {
        "right": ["train.parquet:0", "gone.parquet:5"],
        "no_think": ["gone.parquet:5"],
        "wrong": ["train.parquet:0", "train.parquet:1"],
    }


def test_what_cannot_be_read_is_said(run, tmp_path):
    output = tmp_path / "out"
    assert "no such file or folder" in diagnose(output, tmp_path / "nothere", code=1)
    assert "nothing to diagnose; expected the output of" in diagnose(output, tmp_path, code=1)
    (tmp_path / "skipped" / "difficulty").mkdir(parents=True)
    assert "has no rows. Fix: set difficulty.small" in diagnose(output, tmp_path / "skipped", code=1)
    (tmp_path / "base.yaml").write_text("asign: {}\n")
    assert "the nearest is assign" in diagnose(output, run[0], "--config", tmp_path / "base.yaml", code=1)
    step = run[0] / "rollouts" / "train" / "2.jsonl"
    step.write_text('{"step": 2, "uid": "x"}\n')
    assert "a row has no 'prompt'; expected rows of a training run" in diagnose(output, run[0], code=1)
    assert not output.exists()
    step.write_bytes(b'{"step": 2, "uid"\n\0\0\0\n')
    assert "2.jsonl: 2 lines (the first: 1) damaged and skipped" in diagnose(output, run[0])
