"""Measure what it costs to plan a set, relative to one tokenising pass over its prompts.

    python scripts/bench/planning.py [--samples 20] [--task niah_multikey_3]

A plan is generated (or read), counted with the chat template, grouped, hashed and written. RULER is planned at 131,072
tokens, each task on its own; AA-LCR as it is, and into a window for which every prompt is cut in the middle. The pass
is `encode_batch_fast` of each prompt as it is sent, with the same tokenizer. Times are CPU times of one thread, which
other processes affect little; the reading of sources is not counted. Writes docs/results/planning.json.
"""

import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

# All measurements are of one thread.
os.environ["TOKENIZERS_PARALLELISM"] = "false"

RESULT = Path("docs/results/planning.json")
LENGTH, WINDOW, NARROW = 131_072, 1 << 20, 65_536
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
RECORD: dict[str, Any] = {"model": {}, "sampling": {}, "seed": 42, "repeats": 1}


def measure(rows: Callable[[], Iterator[Any]], tokenizer: Any, window: int = WINDOW) -> dict[str, Any]:
    """CPU seconds of a plan and of one pass over the prompts before they are cut."""
    from recipe.longrl.evaluation.plan import ChatCounter, make_plan, messages_to_send
    from recipe.longrl.evaluation.profiles import SetOptions

    options, counter = SetOptions(benchmark="bench", over_window="middle", max_tokens=128), ChatCounter(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        plan = make_plan(Path(folder) / "set", rows(), counter, window, options, RECORD)
        plan_s = time.process_time() - started
    pass_s = 0.0
    for row in rows():
        text = "".join(message["content"] for message in messages_to_send(row, "append"))
        started = time.process_time()
        tokenizer.backend_tokenizer.encode_batch_fast([text], add_special_tokens=False)
        pass_s += time.process_time() - started
    return {
        "rows": len(plan.rows),
        "mean_tokens": round(plan.tokens[0] / len(plan.rows)),
        "plan_s": round(plan_s, 3),
        "pass_s": round(pass_s, 3),
        "ratio": round(plan_s / pass_s, 2),
    }


def main(
    samples: Annotated[int, typer.Option(help="Samples of each task.")] = 20,
    task: Annotated[list[str] | None, typer.Option(help="Tasks of RULER; default: all.")] = None,
    output: Path = RESULT,
) -> None:
    """Measure all sets, print the results and write the JSON."""
    from data_gen.tokenizer import BUILTIN, load_tokenizer
    from recipe.longrl.evaluation.benchmarks.aa_lcr import aa_lcr_rows
    from recipe.longrl.evaluation.benchmarks.ruler import TASKS, ruler_rows
    from recipe.longrl.evaluation.benchmarks.ruler_tasks import pools

    tokenizer = load_tokenizer(BUILTIN)
    tokenizer.chat_template = CHAT
    pools.squad(), pools.hotpotqa(), pools.key_words(), pools.list_words(), pools.essays(), next(aa_lcr_rows())
    sets: dict[str, dict[str, Any]] = {}

    def report(name: str, rows: Callable[[], Iterator[Any]], window: int = WINDOW) -> None:
        sets[name] = measure(rows, tokenizer, window)
        print(name, sets[name], flush=True)

    for name in task or TASKS:
        report(
            f"{name}/{LENGTH}",
            lambda name=name: ruler_rows(tokenizer=tokenizer, lengths=[LENGTH], samples=samples, tasks=[name]),
        )
    if not task:
        report("aa_lcr", lambda: islice(aa_lcr_rows(), samples))
        report(f"aa_lcr cut to {NARROW}", lambda: islice(aa_lcr_rows(), samples), NARROW)
    output.write_text(json.dumps({"command": shlex.join(["python", *sys.argv]), "sets": sets}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
