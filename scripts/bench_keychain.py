"""What a KeyChain prompt costs, over one tokenising pass of that very prompt.

    python scripts/bench_keychain.py [--rounds 40]

Passages are sentences of the documentation of this environment's packages, the tokenizer is a byte-level BPE trained
on them with Qwen's way of cutting words. Each round composes one finished prompt (chains, proof included) and
tokenises it whole, on one core, alternating; the median of the ratios is written, for 16K tokens over a haystack of
20,000 and of 200,000 passages, with 16 chains of UUIDs (stage I) and 64 of 8 digits (stage II), and for 4K to 256K
tokens. Every length is checked against the whole count. Writes docs/results/keychain.json."""

import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core

ROOT = Path(__file__).resolve().parents[1]
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


def measure(composer: Any, haystack: Any, rounds: int) -> dict[str, float]:
    """Milliseconds of composing and of tokenising, and the median of their ratios."""
    from data_gen.keychain.compose import Asked
    from data_gen.keychain.fill import prove

    draw, composing, tokenising = random.Random(0), [], []
    for number in range(rounds):
        own = tuple(draw.sample(range(len(haystack)), 10))
        asked = Asked(f"{number}", f"Who wrote the account number {number}?", ("nobody in particular",), own, own[:2])
        began = time.perf_counter()
        made = composer.keychain(asked)
        prove(made, asked.question)
        composing.append(time.perf_counter() - began)
        began = time.perf_counter()
        whole = composer.lengths.prompt(made.text)
        tokenising.append(time.perf_counter() - began)
        assert whole == made.tokens, (whole, made.tokens)
    ratios = [a / b for a, b in zip(composing, tokenising, strict=True)]
    return {
        "compose_ms": 1e3 * statistics.median(composing),
        "tokenise_ms": 1e3 * statistics.median(tokenising),
        "ratio": statistics.median(ratios),
    }


def main(rounds: Annotated[int, typer.Option(help="Prompts of each kind.")] = 40) -> None:
    """Measure, print, write."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    import bpe
    from verl_longrl.data.lengths import PromptCounter

    from data_gen.keychain.chains import ChainOptions
    from data_gen.keychain.compose import ComposeOptions, Composer
    from data_gen.keychain.haystack import Haystack, build

    said, draw = sentences(), random.Random(0)
    tokenizer = bpe.build(said, 32_000)
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
        cases = [(SMALL, 16384, stage_1), (LARGE, 16384, stage_1), (SMALL, 16384, stage_2)]
        cases += [(LARGE, budget, stage_1) for budget in (4096, 65536, 262144)]
        for size, budget, chains in cases:
            composer = Composer(haystacks[size], counter, ComposeOptions(budget), chains, others, 0)
            assert composer.by_sums
            name = f"{budget // 1024}K, {chains.number_of_chains(budget)} chains, {size} passages"
            result[name] = measure(composer, haystacks[size], max(5, min(rounds, rounds * 32768 // budget)))
            print(name, json.dumps(result[name]), flush=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
