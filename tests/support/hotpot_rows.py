"""Invented two-hop questions in HotpotQA's own format: who wrote a book, and where its author was born."""

import hashlib
import json
import random
import re

_SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "lan", "mer", "tos")
_PLACES = ("Arvik", "Belmor", "Casten", "Dornau", "Elvas", "Fermo", "Gorlitz", "Hattem", "Isley", "Jarva", "Kolding")
_TALK = (
    "The {a} of {place} was opened in {year}, and cost 3.5 million crowns.",
    "Dr. {name} of the U.S. survey wrote a short account of it.",
    "Was it worth the money? Many in {place} did not think so!",
    "It has been closed since {year}.",
    "Nobody has seen the plans of {name} since then.",
    "In winter the {a} is used by the people of {place} as a store.",
)


def _name(draw):
    return "".join(draw.choices(_SYLLABLES, k=2)).title() + " " + "".join(draw.choices(_SYLLABLES, k=3)).title()


def _talk(draw, sentences):
    words = {
        "a": draw.choice(("bridge", "school", "mill", "tower")),
        "name": _name(draw),
        "place": draw.choice(_PLACES),
    }
    return [draw.choice(_TALK).format(**words, year=draw.randrange(1700, 2000)) for _ in range(sentences)]


def rows(count, seed=0, passages=10):
    """`count` rows of HotpotQA's format."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        author, book, place = _name(draw), f"The {_name(draw)} Letters", draw.choice(_PLACES)
        facts = [
            [book, [f"{book} is a novel of {number + 100} pages.", f"It was written by {author}.", *_talk(draw, 3)]],
            [author, [f"{author} was born in {place}.", *_talk(draw, 4)]],
        ]
        others = [[_name(draw), _talk(draw, draw.randint(3, 8))] for _ in range(passages - 2)]
        context = facts + others
        draw.shuffle(context)
        made.append(
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
    return made


def write(file, count=120, seed=0, passages=10):
    """A file of HotpotQA's format; its rows."""
    made = rows(count, seed, passages)
    file.write_text(json.dumps(made))
    return made


def texts(made):
    """All text of rows, to train a tokenizer on."""
    return [row["question"] for row in made] + [" ".join([t, *s]) for row in made for t, s in row["context"]]


def difficulty(question):
    """easy, hard or fair: of a question, for `answer`."""
    return ("easy", "hard", "fair")[hashlib.blake2b(question.encode(), digest_size=1).digest()[0] % 3]


def answer(body):
    """What a model that reads the passages says: always right, never, or by the request's seed, by the question."""
    prompt = body["messages"][0]["content"]
    book = re.search(r"Question: Where was the author of (.*) born\?", prompt)[1]
    author = re.search(rf"{book} is a novel of \d+ pages\. It was written by (.*?)\.", prompt)[1]
    place = re.search(rf"{author} was born in (\w+)\.", prompt)[1]
    kind = difficulty(f"Where was the author of {book} born?")
    right = kind == "easy" or (kind == "fair" and random.Random(body["seed"]).random() < 0.5)
    return f"I look for the book.</think>It is \\boxed{{{place if right else 'Nowhere'}}}."
