"""A tiny world of texts in which a color is found by following things and keys, as in LoongRL's KeyChain.

A text consists of sentences of four words. Some say that a thing has a color ("lamp is amber ."), some that it is by
another thing ("door by lamp ."), whose color is then the answer. The rest is chatter. Between sentences are pairs of
keys in the form that `data_gen.keychain` writes, and each chain of pairs ends in a thing. Every value is two words
after the key or thing that it is looked up by, and every text draws its own colors, so that nothing can be answered
without reading.

    plain      Question "door"                       door lamp amber
    KeyChain   Begin with the key "3f0c91aa"         3f0c91aa 77d2e018 ... door lamp amber

Everything is a function of `(KeychainWorld, seed)`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from data_gen.keychain import chains, prompts
from data_gen.keychain.chain_text import ordered
from recipe.longrl.demo.words import KEYS, VALUES, chatter

IDENTIFIERS = 256
"""Number of chain keys in the tokenizer's vocabulary."""
TOKENS_PER_CHAIN, TOKENS_PER_FACT = 64, 24
SENTENCE_TOKENS = 4


@dataclass(frozen=True)
class KeychainWorld:
    """Sizes of the texts."""

    tokens: int = 224
    """Length of a text."""
    density: float = 1.0
    """Chains for every 64 tokens; 0 for no chains."""
    hops: int = 4
    """Pairs in a chain."""
    near: float = 0.5
    """Share of things that are by another thing."""

    @property
    def chains(self) -> int:
        """Number of chains in a text."""
        return max(2, round(self.density * self.tokens / TOKENS_PER_CHAIN)) if self.density else 0


@dataclass(frozen=True)
class KeychainDocument:
    """A text, the target of every key and thing, and the subjects of questions: things, and the keys of each chain."""

    text: str
    leads_to: Mapping[str, str]
    things: tuple[str, ...]
    chains: tuple[tuple[str, ...], ...]

    def path(self, start: str) -> list[str]:
        """From a thing or a key to its color, both included."""
        path = [start]
        while path[-1] in self.leads_to:
            path.append(self.leads_to[path[-1]])
        return path

    @property
    def colors(self) -> tuple[str, ...]:
        """All colors of the text."""
        return tuple(value for value in self.leads_to.values() if value not in self.leads_to)


def identifiers() -> list[str]:
    """All keys of chains in this world."""
    draw = random.Random("longrl-demo-identifiers")
    pool = dict.fromkeys(chains.draw_identifier(draw, "hex8") for _ in range(2 * IDENTIFIERS))
    return list(pool)[:IDENTIFIERS]


def documents(config: KeychainWorld, seed: int | str) -> Iterator[KeychainDocument]:
    """Texts without end; the same `(config, seed)` gives the same texts."""
    rng = random.Random(f"longrl-demo-keychain-{seed}")
    pool = identifiers()
    while True:
        yield _document(rng, config, pool)


def _document(rng: random.Random, config: KeychainWorld, pool: list[str]) -> KeychainDocument:
    count = max(config.chains, config.tokens // TOKENS_PER_FACT)
    things = rng.sample(KEYS, count)
    near = round(config.near * count)
    leads_to = dict(zip(things[near:], rng.sample(VALUES, count - near), strict=True))
    leads_to |= {thing: rng.choice(things[near:]) for thing in things[:near]}
    links, keys = _chains(rng, config, things, pool) if config.chains else ([], [])
    leads_to |= {key: value for line in keys for key, value in itertools.pairwise(line)}
    sentences = []
    for thing in things:
        if thing in things[:near]:
            # The chatter keeps the next sentence's thing away from this sentence's.
            sentences.append([f"{thing} by {leads_to[thing]} .", chatter(rng)])
        else:
            sentences.append([f"{thing} is {leads_to[thing]} ."])
    link_tokens = sum(6 if "?" in link else 5 for link in links)
    room = config.tokens - link_tokens - SENTENCE_TOKENS * sum(map(len, sentences))
    if room < 0:
        raise ValueError(f"the facts and chains of {config} need {-room} tokens more than a text has")
    sentences += [[chatter(rng)] for _ in range(room // SENTENCE_TOKENS)]
    rng.shuffle(sentences)
    lines = [sentence for group in sentences for sentence in group]
    for at, link in zip(sorted(rng.choices(range(1, len(lines) + 1), k=len(links)), reverse=True), links, strict=True):
        lines.insert(at, link)
    return KeychainDocument(" ".join(lines), leads_to, tuple(things), tuple(line[:-1] for line in keys))


def _chains(
    rng: random.Random, config: KeychainWorld, things: list[str], pool: list[str]
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Pairs as text, and each chain with the thing that it ends in; the true chain is the first."""
    drawn = chains.draw_puzzle(rng, chains.ChainOptions(hops=config.hops), config.chains, len(pool))
    ends = rng.sample(things, drawn.questions)

    def value(pair: chains.Pair) -> str:
        return pool[pair.key2] if pair.key2 is not None else f"{ends[pair.question or 0]} ?"

    links = [prompts.link(pool[pair.key], value(pair)).strip() for pair in ordered(rng, drawn, "random")]
    lines = [(*(pool[pair.key] for pair in line), ends[line[-1].question or 0]) for line in (drawn.true, *drawn.others)]
    return links, lines
