"""Measure what it costs to record rollouts, and to open what was recorded.

    python scripts/bench/recording.py [--steps 1000] [--prompts 32] [--rollouts 8] [--prompt-tokens 65536]

- open: the index of a run of 1,000 steps with 256 rollouts each, as a viewer opens it: seconds of a first and a second
  read, bytes, and memory. Then the rollouts of one step, one rollout, and what was appended by one more step.
- resume: seconds until a log of that size is open and has dropped its last five steps.
- record: seconds for one step with prompts of 64K tokens and responses of 2K tokens: decoding, encoding and writing, in
  the thread of the log, with the tokenizer of this repository. Prompts that are new, and again when they are known.
- read: one prompt of 128K and of 1M tokens by its key.

Times are wall-clock seconds, so measure on an idle machine; `cpu_s` is the time of this process on the CPU. Writes
docs/results/recording.json.
"""

import json
import os
import random
import resource
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from verl_longrl.trainer.recorded_run import RecordedRun
from verl_longrl.trainer.rollout_key import RolloutKey
from verl_longrl.trainer.rollout_log import LoggedPrompt, LoggedRollouts, RolloutLog

from data_gen.tokenizer import BUILTIN, load_tokenizer

RESULT = Path("docs/results/recording.json")
RESPONSE_TOKENS = 2048
READ_TOKENS = (1 << 17, 1 << 20)
SENTENCE = "the river was measured in spring by two surveyors who wrote down 17 depths and a width of 240 metres"


@contextmanager
def timed(result: dict[str, Any], name: str) -> Iterator[None]:
    """Put seconds and CPU seconds of the block into `result`."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    result[f"{name}_s"] = round(time.perf_counter() - wall, 4)
    result[f"{name}_cpu_s"] = round(time.process_time() - cpu, 4)


def draw_tokens(tokenizer: Any, draw: random.Random, count: int) -> list[int]:
    """`count` tokens of a text that is different at every call."""
    text = " ".join(draw.choices(SENTENCE.split(), k=1000))
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    return (tokens * (count // len(tokens) + 1))[:count]


def make_step(tokenizer: Any, draw: random.Random, prompts: int, rollouts: int, tokens: int) -> LoggedRollouts:
    """The rollouts of a step, as the trainer hands them to the log."""
    info = {
        "question": "How deep is the river?",
        "ref_chunks": [3, 17],
        "num_chunks": 300,
        "data_file": "train.parquet",
    }
    made = {
        str(number): LoggedPrompt(draw_tokens(tokenizer, draw, tokens), {"ground_truth": "17"}, info)
        for number in range(prompts)
    }
    keys = [RolloutKey(uid, session, 0) for uid in made for session in range(rollouts)]
    parts = dict.fromkeys(("score", "answer", "context", "recall", "precision", "format", "cited", "outside"), 0.5)
    score = {
        **parts,
        "task": "longrlvr",
        "status": "ok",
        "reason": "",
        "own_parts": "{}",
        "cited_ids": "[3]",
        "judge": "null",
    }
    measured = {
        "advantage": 0.123456,
        "logprob_gap": 0.0012,
        "seconds": 31.5,
        "scoring_seconds": 0.2,
        "weights_step": 9,
    }
    responses = [draw_tokens(tokenizer, draw, RESPONSE_TOKENS) for _ in keys]
    return LoggedRollouts(made, keys, responses, [score] * len(keys), [measured] * len(keys))


def measure_recording(folder: Path, tokenizer: Any, prompts: int, rollouts: int, tokens: int) -> dict[str, Any]:
    """Seconds for the first step of a run, and for one whose prompts are known."""
    result: dict[str, Any] = {"prompts": prompts, "rollouts": prompts * rollouts, "prompt_tokens": tokens}
    step = make_step(tokenizer, random.Random(0), prompts, rollouts, tokens)
    log = RolloutLog(folder / "rollouts")
    for number, name in enumerate(("new_prompts", "known_prompts"), 1):
        with timed(result, name):
            log.add("train", step, tokenizer.decode)
            log.write("train", number)
    result["bytes"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return result


def measure_reading(folder: Path, tokenizer: Any) -> dict[str, Any]:
    """Seconds to read one prompt by its key, in a run that has been opened."""
    log, result = RolloutLog(folder / "rollouts"), dict[str, Any]()
    draw = random.Random(1)
    for tokens in READ_TOKENS:
        (key,) = log.add_prompts([(tokenizer.decode(draw_tokens(tokenizer, draw, tokens)), {})])
        run = RecordedRun(folder)
        run.prompts.update()
        with timed(result, f"prompt_of_{tokens}_tokens"):
            assert run.prompts.text(key)
    return result


def measure_opening(folder: Path, steps: int, prompts: int, rollouts: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Seconds to open and to resume a run of many steps. The responses are short: nobody reads them here."""
    log, draw = RolloutLog(folder / "rollouts"), random.Random(2)
    keys = log.add_prompts([(f"prompt {number}", {"question": "How deep is it?"}) for number in range(20 * prompts)])
    for step in range(1, steps + 1):
        log.write_step("train", step, list(make_rows(draw, draw.sample(keys, prompts), rollouts)))
    opened: dict[str, Any] = {"steps": steps, "rollouts": steps * prompts * rollouts}
    opened["index_mib"] = round(log.index.stat().st_size / 2**20, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in ("open", "open_again"):
        run = RecordedRun(folder)
        with timed(opened, name):
            run.index.update()
            run.prompts.update()
    assert len(run.index) == opened["rollouts"]
    opened["memory_mib"] = round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1)
    with timed(opened, "find_a_step"):
        rows = run.index.find("train", steps // 2)
    with timed(opened, "read_a_rollout"):
        assert run.rollout(int(rows[0]))
    log.write_step("train", steps + 1, list(make_rows(draw, keys[:prompts], rollouts)))
    with timed(opened, "one_more_step"):
        run.index.update()
    resumed: dict[str, Any] = {}
    with timed(resumed, "resume"):
        RolloutLog(folder / "rollouts").drop_after(steps - 4)
    return opened, resumed


def make_rows(draw: random.Random, prompts: list[str], rollouts: int) -> Iterator[dict[str, Any]]:
    """Rows of a step with short responses and different numbers."""
    names = ("score", "answer", "context", "recall", "precision", "advantage", "logprob_gap", "seconds")
    for uid, prompt in enumerate(prompts):
        for number in range(rollouts):
            row = {"uid": str(uid), "rollout": number, "prompt": prompt, "task": "longrlvr", "status": "ok"}
            row |= {name: draw.random() for name in names} | {"format": 1.0, "cited": 3.0, "outside": 0.0}
            row |= {"prompt_tokens": draw.randrange(1 << 16), "response_tokens": draw.randrange(4096)}
            yield {**row, "finish_reason": "stop", "response": "17"}


def main(
    steps: Annotated[int, typer.Option(help="Steps of the run that is opened.")] = 1000,
    prompts: Annotated[int, typer.Option(help="Prompts of a step.")] = 32,
    rollouts: Annotated[int, typer.Option(help="Rollouts of a prompt.")] = 8,
    prompt_tokens: Annotated[int, typer.Option(help="Tokens of a prompt that is recorded.")] = 1 << 16,
    output: Path = RESULT,
) -> None:
    """Measure all, print the results and write the JSON."""
    # Opening first: the memory that it takes shows only while nothing before it took more.
    with tempfile.TemporaryDirectory() as folder:
        opened, resumed = measure_opening(Path(folder), steps, prompts, rollouts)
    tokenizer = load_tokenizer(BUILTIN)
    with tempfile.TemporaryDirectory() as folder:
        recorded = measure_recording(Path(folder), tokenizer, prompts, rollouts, prompt_tokens)
        read = measure_reading(Path(folder), tokenizer)
    results: dict[str, Any] = {"open": opened, "resume": resumed, "record": recorded, "read": read}
    results["load"] = os.getloadavg()[0]
    print(json.dumps(results, indent=1))
    output.write_text(json.dumps({"command": shlex.join(["python", *sys.argv]), **results}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
