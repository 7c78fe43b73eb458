"""Benchmark the composition of a KeyChain or retrieval prompt, relative to one tokenization of the same prompt.

    python scripts/bench/keychain.py [--rounds 40]

Passages are sentences from the documentation of installed packages; the tokenizer is a byte-level BPE trained on them
with Qwen's pre-tokenization. Each round composes one finished prompt (chains or needles, proof included) and tokenizes
it whole, on one core, alternating. The result is the median of the ratios:

- for 4K to 256K tokens from a haystack of 20,000 and of 200,000 passages, and for 1M tokens from the larger one, with a
  chain of UUIDs for every 1K tokens (stage I)
- for 16K tokens also with 64 chains of 8 digits (stage II), and for the three kinds of retrieval rows

A ratio that does not grow with the length means that the time is linear in it. Times are CPU times, which other
processes affect little. Every length is compared with a count of the whole prompt. Writes docs/results/keychain.json.
"""

import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

# All measurements are of one core.
os.environ["TOKENIZERS_PARALLELISM"] = "false"

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path("docs/results/keychain.json")
SMALL, LARGE = 20_000, 200_000


def collect_sentences() -> list[str]:
    """Sentences of prose from the documentation of installed packages."""
    sentences = []
    for file in sorted((Path(sys.prefix) / "lib").rglob("*.md")) + sorted((Path(sys.prefix) / "lib").rglob("*.rst")):
        for paragraph in re.split(r"\n\s*\n", file.read_text(errors="ignore")):
            text = " ".join(paragraph.split())
            if sum(c.isalpha() or c == " " for c in text) > 0.9 * len(text):
                sentences += [
                    s for s in re.split(r"(?<=[.!?]) (?=[A-Z])", text) if 30 < len(s) < 300 and s.endswith(".")
                ]
    return list(dict.fromkeys(sentences))


def measure(compose: Callable[[int], Any], count: Callable[[str], int], rounds: int) -> dict[str, float]:
    """Median milliseconds to compose and to tokenize, and the median of their ratios."""
    composing, tokenizing = [], []
    for number in range(rounds):
        started = time.process_time()
        prompt = compose(number)
        composing.append(time.process_time() - started)
        started = time.process_time()
        whole = count(prompt.text)
        tokenizing.append(time.process_time() - started)
        assert whole == prompt.tokens, (whole, prompt.tokens)
    ratios = [a / b for a, b in zip(composing, tokenizing, strict=True)]
    return {
        "compose_ms": 1e3 * statistics.median(composing),
        "tokenise_ms": 1e3 * statistics.median(tokenizing),
        "ratio": statistics.median(ratios),
    }


def keychain_composer(composer: Any, haystack: Any) -> Callable[[int], Any]:
    """A function that composes and proves prompt number n, with ten passages that support its answer."""
    from data_gen.keychain.fill import prove_chain
    from data_gen.keychain.prompt_composer import PlacedQuestion

    def compose(number: int) -> Any:
        passages = tuple(random.Random(number).sample(range(len(haystack)), 10))
        question = PlacedQuestion(
            f"{number}", f"Who wrote the account number {number}?", ("nobody in particular",), passages, passages[:2]
        )
        prompt = composer.keychain(question)
        prove_chain(prompt, question.question)
        return prompt

    return compose


def retrieval_composer(composer: Any, kind: Any, options: Any) -> Callable[[int], Any]:
    """A function that composes and proves prompt number n, with needles of a kind."""
    from data_gen.keychain.needles import needles
    from data_gen.keychain.retrieval import prove_needles

    def compose(number: int) -> Any:
        needle = needles(random.Random(number), kind, options, composer.lengths)
        prompt = composer.retrieval(f"{number}", needle.hidden)
        prove_needles(prompt, needle.values)
        return prompt

    return compose


def main(rounds: Annotated[int, typer.Option(help="Prompts of each case.")] = 40) -> None:
    """Run the benchmark, print the results and write the JSON."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support import tiny_bpe
    from verl_longrl.data.prompt_lengths import PromptCounter

    from data_gen.keychain.chains import ChainOptions
    from data_gen.keychain.needles import KINDS, RetrievalOptions
    from data_gen.keychain.passage_pool import Haystack, PassageMeasure, build_haystack
    from data_gen.keychain.prompt_composer import PromptComposeOptions, PromptComposer

    sentences, draw = collect_sentences(), random.Random(0)
    tokenizer = tiny_bpe.build(sentences, 32_000)
    counter = PromptCounter(tokenizer)
    others = [f"Who wrote the account number {number}?" for number in range(5000)]
    result: dict[str, Any] = {"sentences": len(sentences)}
    with tempfile.TemporaryDirectory() as folder:
        haystacks = {}
        for size in (SMALL, LARGE):
            texts = (f"Passage of {i}\n" + " ".join(draw.choices(sentences, k=draw.randint(3, 8))) for i in range(size))
            started = time.perf_counter()
            build_haystack(Path(folder) / str(size), texts, PassageMeasure(tokenizer.backend_tokenizer))
            result[f"build_s_{size}"] = time.perf_counter() - started
            haystacks[size] = Haystack(Path(folder) / str(size))
        stage_1, stage_2 = ChainOptions(), ChainOptions(per_1k_tokens=4, identifiers="hex8")
        cases = [(size, 1024 * length, stage_1) for length in (4, 16, 64, 256) for size in (SMALL, LARGE)]
        cases += [(LARGE, 1024 * 1024, stage_1), (SMALL, 16384, stage_2)]

        def write(name: str, budget: int, composer: PromptComposer, compose: Callable[[int], Any]) -> None:
            assert composer.by_sums
            case_rounds = max(5, min(rounds, rounds * 32768 // budget))
            result[name] = measure(compose, composer.lengths.prompt, case_rounds)
            print(name, json.dumps(result[name]), flush=True)

        for size, budget, chains in cases:
            composer = PromptComposer(haystacks[size], counter, PromptComposeOptions(budget), chains, others, 0)
            name = f"{budget // 1024}K, {chains.number_of_chains(budget)} chains, {size} passages"
            write(name, budget, composer, keychain_composer(composer, haystacks[size]))
        for kind in KINDS:
            composer = PromptComposer(haystacks[LARGE], counter, PromptComposeOptions(16384), None, (), 0)
            write(
                f"16K, {kind}, {LARGE} passages",
                16384,
                composer,
                retrieval_composer(composer, kind, RetrievalOptions()),
            )
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
