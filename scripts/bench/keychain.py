"""What a KeyChain or retrieval prompt costs, over one tokenising pass of that very prompt.

    python scripts/bench/keychain.py [--rounds 40]

Passages are sentences of the documentation of this environment's packages, the tokenizer is a byte-level BPE trained
on them with Qwen's way of cutting words. Each round composes one finished prompt (chains or needles, proof included)
and tokenises it whole, on one core, alternating; the median of the ratios is written: for 4K to 256K tokens over a
haystack of 20,000 and of 200,000 passages, and for 1M over the larger one, with a chain of UUIDs for every 1K tokens
(stage I); at 16K also with 64 chains of 8 digits (stage II), and for the three kinds of retrieval rows. A ratio that
does not grow with the length means time linear in it. Times are of the processor, so that other processes count for
little. Every length is checked against the whole count. Writes docs/results/keychain.json."""

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

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path("docs/results/keychain.json")
SMALL, LARGE = 20_000, 200_000


def sentences() -> list[str]:
    """Sentences of prose from the documentation of this environment's packages."""
    found = []
    for file in sorted((Path(sys.prefix) / "lib").rglob("*.md")) + sorted((Path(sys.prefix) / "lib").rglob("*.rst")):
        for paragraph in re.split(r"\n\s*\n", file.read_text(errors="ignore")):
            text = " ".join(paragraph.split())
            if sum(c.isalpha() or c == " " for c in text) > 0.9 * len(text):
                found += [s for s in re.split(r"(?<=[.!?]) (?=[A-Z])", text) if 30 < len(s) < 300 and s.endswith(".")]
    return list(dict.fromkeys(found))


def measure(compose: Callable[[int], Any], count: Callable[[str], int], rounds: int) -> dict[str, float]:
    """Milliseconds of composing and of tokenising (medians), and the median of their ratios."""
    composing, tokenising = [], []
    for number in range(rounds):
        began = time.process_time()
        made = compose(number)
        composing.append(time.process_time() - began)
        began = time.process_time()
        whole = count(made.text)
        tokenising.append(time.process_time() - began)
        assert whole == made.tokens, (whole, made.tokens)
    ratios = [a / b for a, b in zip(composing, tokenising, strict=True)]
    return {
        "compose_ms": 1e3 * statistics.median(composing),
        "tokenise_ms": 1e3 * statistics.median(tokenising),
        "ratio": statistics.median(ratios),
    }


def keychain(composer: Any, haystack: Any) -> Callable[[int], Any]:
    """Makes the prompt of a number, with ten passages of its own behind its chains, and proves it."""
    from data_gen.keychain.fill import prove
    from data_gen.keychain.prompt_composer import Asked

    def compose(number: int) -> Any:
        own = tuple(random.Random(number).sample(range(len(haystack)), 10))
        asked = Asked(f"{number}", f"Who wrote the account number {number}?", ("nobody in particular",), own, own[:2])
        made = composer.keychain(asked)
        prove(made, asked.question)
        return made

    return compose


def retrieval(composer: Any, kind: Any, options: Any) -> Callable[[int], Any]:
    """Makes the prompt of a number, with needles of a kind in it, and proves it."""
    from data_gen.keychain.needles import needles
    from data_gen.keychain.retrieval import prove

    def compose(number: int) -> Any:
        needle = needles(random.Random(number), kind, options, composer.lengths)
        made = composer.retrieval(f"{number}", needle.hidden)
        prove(made, needle.values)
        return made

    return compose


def main(rounds: Annotated[int, typer.Option(help="Prompts of each kind.")] = 40) -> None:
    """Measure, print, write."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support import tiny_bpe
    from verl_longrl.data.prompt_lengths import PromptCounter

    from data_gen.keychain.chains import ChainOptions
    from data_gen.keychain.needles import KINDS, RetrievalOptions
    from data_gen.keychain.passage_pool import Haystack, build
    from data_gen.keychain.prompt_composer import ComposeOptions, Composer

    said, draw = sentences(), random.Random(0)
    tokenizer = tiny_bpe.build(said, 32_000)
    counter = PromptCounter(tokenizer)
    others = [f"Who wrote the account number {number}?" for number in range(5000)]
    result: dict[str, Any] = {"sentences": len(said)}
    with tempfile.TemporaryDirectory() as folder:
        haystacks = {}
        for size in (SMALL, LARGE):
            texts = (f"Passage of {i}\n" + " ".join(draw.choices(said, k=draw.randint(3, 8))) for i in range(size))
            began = time.perf_counter()
            build(Path(folder) / str(size), texts, tokenizer.backend_tokenizer)
            result[f"build_s_{size}"] = time.perf_counter() - began
            haystacks[size] = Haystack(Path(folder) / str(size))
        stage_1, stage_2 = ChainOptions(), ChainOptions(per_1k_tokens=4, identifiers="hex8")
        cases = [(size, 1024 * length, stage_1) for length in (4, 16, 64, 256) for size in (SMALL, LARGE)]
        cases += [(LARGE, 1024 * 1024, stage_1), (SMALL, 16384, stage_2)]

        def write(name: str, budget: int, composer: Composer, compose: Callable[[int], Any]) -> None:
            assert composer.by_sums
            few = max(5, min(rounds, rounds * 32768 // budget))
            result[name] = measure(compose, composer.lengths.prompt, few)
            print(name, json.dumps(result[name]), flush=True)

        for size, budget, chains in cases:
            composer = Composer(haystacks[size], counter, ComposeOptions(budget), chains, others, 0)
            name = f"{budget // 1024}K, {chains.number_of_chains(budget)} chains, {size} passages"
            write(name, budget, composer, keychain(composer, haystacks[size]))
        for kind in KINDS:
            composer = Composer(haystacks[LARGE], counter, ComposeOptions(16384), None, (), 0)
            write(f"16K, {kind}, {LARGE} passages", 16384, composer, retrieval(composer, kind, RetrievalOptions()))
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
