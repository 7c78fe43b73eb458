"""Invented rows in HotpotQA's format, and a fake model that answers them.

They stand for the released file, which tests cannot download. Every question takes two hops: who wrote a book, and
where its author was born.
"""

import hashlib
import json
import random
import re

_SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "lan", "mer", "tos")
_PLACES = ("Arvik", "Belmor", "Casten", "Dornau", "Elvas", "Fermo", "Gorlitz", "Hattem", "Isley", "Jarva", "Kolding")
_FILLER = (
    "The {a} of {place} was opened in {year}, and cost 3.5 million crowns.",
    "Dr. {name} of the U.S. survey wrote a short account of it.",
    "Was it worth the money? Many in {place} did not think so!",
    "It has been closed since {year}.",
    "Nobody has seen the plans of {name} since then.",
    "In winter the {a} is used by the people of {place} as a store.",
)


def _name(draw):
    return "".join(draw.choices(_SYLLABLES, k=2)).title() + " " + "".join(draw.choices(_SYLLABLES, k=3)).title()


def _filler(draw, sentences):
    words = {
        "a": draw.choice(("bridge", "school", "mill", "tower")),
        "name": _name(draw),
        "place": draw.choice(_PLACES),
    }
    return [draw.choice(_FILLER).format(**words, year=draw.randrange(1700, 2000)) for _ in range(sentences)]


def rows(count, seed=0, passages=10):
    """`count` rows of HotpotQA's format."""
    draw = random.Random(seed)
    examples = []
    for number in range(count):
        author, book, place = _name(draw), f"The {_name(draw)} Letters", draw.choice(_PLACES)
        facts = [
            [book, [f"{book} is a novel of {number + 100} pages.", f"It was written by {author}.", *_filler(draw, 3)]],
            [author, [f"{author} was born in {place}.", *_filler(draw, 4)]],
        ]
        others = [[_name(draw), _filler(draw, draw.randint(3, 8))] for _ in range(passages - 2)]
        context = facts + others
        draw.shuffle(context)
        examples.append(
            {
                "_id": f"{seed}-{number}",
                "question": f"Where was the author of {book} born?",
                "answer": place,
                "supporting_facts": [[book, 1], [author, 0]],
                "context": context,
                "type": "bridge",
                "level": "hard",
            }
        )
    return examples


def write(file, count=120, seed=0, passages=10):
    """Write such rows to a file, and return them."""
    examples = rows(count, seed, passages)
    file.write_text(json.dumps(examples))
    return examples


def texts(examples):
    """All texts of rows, to train a tokenizer on."""
    passages = [" ".join([title, *sentences]) for row in examples for title, sentences in row["context"]]
    return [row["question"] for row in examples] + passages


def difficulty(question):
    """How often `answer` is right about a question: always (easy), never (hard), for half of the seeds (fair)."""
    return ("easy", "hard", "fair")[hashlib.blake2b(question.encode(), digest_size=1).digest()[0] % 3]


def answer(body):
    """The reply of a fake model that reads the passages, and is right as often as the question's difficulty says."""
    prompt = body["messages"][0]["content"]
    book = re.search(r"Question: Where was the author of (.*) born\?", prompt)[1]
    author = re.search(rf"{book} is a novel of \d+ pages\. It was written by (.*?)\.", prompt)[1]
    place = re.search(rf"{author} was born in (\w+)\.", prompt)[1]
    kind = difficulty(f"Where was the author of {book} born?")
    right = kind == "easy" or (kind == "fair" and random.Random(body["seed"]).random() < 0.5)
    return f"I look for the book.</think>It is \\boxed{{{place if right else 'Nowhere'}}}."
