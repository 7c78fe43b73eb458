"""Invented chronicles of a town: English prose with headings, names, years, wrapped lines and dialogue.

They stand for the books that users bring. Any number of different ones can be made without a download.
"""

import random
import textwrap

PEOPLE = ("Harrowgate", "Milburn", "Ottoline", "Pemberton", "Quarles", "Rosamund", "Selwyn", "Thackeray", "Ursula")
PLACES = ("the granary", "the old bridge", "the customs house", "the weir", "the north gate", "the ropeworks")
WORKS = ("repaired", "painted", "measured", "bought", "described", "surveyed", "praised", "abandoned", "insured")
WEATHER = ("a dry summer", "a hard frost", "three days of rain", "an early spring", "a mild and windy autumn")
_SENTENCES = (
    "In {year} {person} {work} {place}, which the council had long neglected.",
    "{person} remembered that {place} was {work} after {weather}, and nobody objected.",
    "It was {weather} that persuaded {person} to leave {place} as it was until {year}.",
    "The accounts of {person} show that {place} was {work} at a cost of {cost} crowns.",
    '"We shall see {place} again," wrote {person} to a cousin, "if {weather} permits it."',
    "After {weather} came {other}, and {person}'s men were sent to {place} with ropes.",
    "Of {place} the clerk says only that {person} {work} it, and that it was paid for.",
    "Nothing was heard of {person} for {cost} days. Then a letter arrived from {place}!",
    "Mr. {person} and Mrs. {someone} met at {place} at 9.30 in the morning, as they did each year.",
)


def document(seed: int, paragraphs: int = 40, years: bool = True) -> str:
    """A chronicle of this many paragraphs; without `years`, one in which no number has four digits."""
    draw = random.Random(seed)
    town = draw.sample(PEOPLE, 7)
    pieces = []
    for number in range(paragraphs):
        if number % 9 == 0:
            pieces.append(f"CHAPTER {number // 9 + 1}\nOf {draw.choice(PLACES)[4:]}")
        sentences = [
            draw.choice(_SENTENCES if years else _SENTENCES[1:2] + _SENTENCES[3:]).format(
                person=draw.choices(town, weights=range(1, 8))[0],
                someone=draw.choice(town),
                place=draw.choice(PLACES),
                work=draw.choice(WORKS),
                weather=draw.choice(WEATHER),
                other=draw.choice(WEATHER),
                year=draw.choice((1702, 1711, 1748, 1750, 1799, 1823)),
                cost=draw.randrange(12, 990),
            )
            for _ in range(draw.randint(3, 6))
        ]
        text = " ".join(sentences)
        pieces.append(textwrap.fill(text, 72) if draw.random() < 0.7 else text)
    return "\n\n".join(pieces)
