"""Draw the needles of a retrieval prompt: sentences to find in a long text, and a question about them.

The kinds are those of LoongRL's Book RULER rows (arXiv 2510.19363, table 1); every choice is seeded.

- multi_key: many keys with one value each; the question asks for the value of one key;
- multi_value: one key with many values; the question asks for all of them;
- sentence: one fact in plain words about an invented person.

Keys and values are words, numbers or UUIDs, as in RULER (arXiv 2404.06654). In a prompt they are all different and
appear nowhere else: passages that contain one are left out, and `needle_solver.py` proves it for every sample.
"""

from __future__ import annotations

import random
from typing import Annotated, Literal, NamedTuple

from annotated_types import Ge, Le
from pydantic import NonNegativeInt
from pydantic.dataclasses import dataclass
from verl_longrl.options import Options

from data_gen.keychain import prompts
from data_gen.keychain.chain_text import Hidden, Link
from data_gen.keychain.chains import draw_identifier
from data_gen.keychain.lengths import PartLengths

Kind = Literal["multi_key", "multi_value", "sentence"]
KINDS: tuple[Kind, ...] = ("multi_key", "multi_value", "sentence")
Form = Literal["words", "numbers", "uuids"]
THINGS: dict[Form, str] = {"words": "word", "numbers": "number", "uuids": "UUID"}
MOST = 1000

# fmt: off
ADJECTIVES = (
    "amber", "ancient", "bitter", "brass", "broken", "bronze", "carved", "cedar", "copper", "cotton", "crooked",
    "crystal", "dusty", "ebony", "faded", "feathered", "folded", "frosted", "gilded", "glazed", "granite", "hollow",
    "indigo", "ivory", "lacquered", "leather", "marble", "mended", "mossy", "oaken", "painted", "pewter", "polished",
    "quilted", "rusty", "scarlet", "silken", "slender", "speckled", "striped", "tarnished", "tiny", "velvet", "violet",
    "walnut", "waxen", "wicker", "wooden",
)
NOUNS = (
    "accordion", "almanac", "anvil", "barometer", "basket", "bellows", "birdcage", "bookend", "bucket", "candlestick",
    "chessboard", "compass", "cradle", "decanter", "doorknob", "dulcimer", "easel", "figurine", "flute", "goblet",
    "harmonica", "hourglass", "inkwell", "kettle", "ladle", "lantern", "locket", "mandolin", "mirror", "mortar",
    "paddle", "pendulum", "pitcher", "platter", "puppet", "quill", "saddle", "sextant", "snuffbox", "spindle",
    "tambourine", "teapot", "telescope", "thimble", "trinket", "trumpet", "weathervane", "whistle",
)
FIRST_NAMES = (
    "Aldous", "Bettina", "Corwin", "Delphine", "Emeric", "Fenella", "Gustav", "Hedwig", "Ignatius", "Jocasta",
    "Kasimir", "Leopoldine", "Mortimer", "Nerissa", "Oswin", "Petronella", "Quintin", "Rosalind", "Sylvester", "Thekla",
)
LAST_NAMES = (
    "Abernacle", "Brindlemoor", "Castellane", "Dunwhistle", "Everhollow", "Fennimark", "Gadderley", "Hobthorne",
    "Inglewright", "Jessamond", "Kettlewick", "Lorrimond", "Marchbanks", "Nettlefold", "Ostrander", "Pennyquick",
    "Quillfeather", "Ravensmark", "Stonegallow", "Thistlewaite",
)
# fmt: on


@dataclass(frozen=True)
class RetrievalOptions(Options):
    """How many rows of each kind there are, and their keys and values."""

    multi_key: NonNegativeInt = 0
    """Rows of this kind; LoongRL has 512."""
    multi_value: NonNegativeInt = 0
    """Rows of this kind; LoongRL has 512."""
    sentence: NonNegativeInt = 0
    """Rows of this kind; LoongRL has 500."""
    keys: Annotated[int, Ge(1), Le(MOST)] = 20
    """Keys in a multi_key row."""
    values: Annotated[int, Ge(1), Le(MOST)] = 20
    """Values in a multi_value row."""
    key_form: Form = "words"
    """words (amber-kettle), numbers (of seven digits) or uuids."""
    value_form: Form = "numbers"
    """As `key_form`."""

    @property
    def rows(self) -> dict[Kind, int]:
        """How many rows there are of each kind that has any."""
        return {kind: getattr(self, kind) for kind in KINDS if getattr(self, kind)}


class Needles(NamedTuple):
    """A question, its answers in the order in which they will appear in the text, and the sentences to hide."""

    question: str
    values: tuple[str, ...]
    hidden: Hidden


def needles(draw: random.Random, kind: Kind, options: RetrievalOptions, lengths: PartLengths) -> Needles:
    """Draw the needles of a prompt of this kind."""
    statement, question = prompts.FILED, prompts.WHICH_ONE
    if kind == "multi_key":
        keys, values = _different(draw, options, options.keys, options.keys)
        pairs = list(zip(keys, values, strict=True))
    elif kind == "multi_value":
        question = prompts.WHICH_ALL
        keys, values = _different(draw, options, 1, options.values)
        pairs = [(keys[0], value) for value in values]
    else:
        statement, question = draw.choice(prompts.FACTS)
        person = f"{draw.choice(FIRST_NAMES)} {draw.choice(LAST_NAMES)}"
        pairs = [(person, f"{draw.choice(ADJECTIVES)} {draw.choice(NOUNS)}")]
    target, thing = pairs[0][0], THINGS[options.value_form]
    draw.shuffle(pairs)
    texts = [" " + statement.format(key=key, value=value, thing=thing) for key, value in pairs]
    links = [Link(text.encode(), tokens) for text, tokens in zip(texts, lengths.count(texts), strict=True)]
    question = question.format(key=target, thing=thing)
    unique = tuple(dict.fromkeys(text for pair in pairs for text in pair))
    hidden = Hidden(prompts.needle_question(question, len(pairs)), links, (target,), unique)
    return Needles(question, tuple(value for key, value in pairs if key == target), hidden)


def _different(draw: random.Random, options: RetrievalOptions, keys: int, values: int) -> tuple[list[str], list[str]]:
    """This many keys and values, all of them different."""
    if options.key_form == options.value_form:
        names = _names(draw, options.key_form, keys + values)
        return names[:keys], names[keys:]
    return _names(draw, options.key_form, keys), _names(draw, options.value_form, values)


def _names(draw: random.Random, form: Form, count: int) -> list[str]:
    """`count` different names of a form."""
    if form == "words":
        places = draw.sample(range(len(ADJECTIVES) * len(NOUNS)), count)
        return [f"{ADJECTIVES[place // len(NOUNS)]}-{NOUNS[place % len(NOUNS)]}" for place in places]
    if form == "numbers":
        return list(map(str, draw.sample(range(10**6, 10**7), count)))
    return [draw_identifier(draw, "uuid") for _ in range(count)]
