"""Documents with known topics and facts, for pipelines whose fake models must know the right answers.

Each paragraph is about one of several topics, in mixed order, and states one fact such as "The law number of Falk is
417." A fake model finds the facts of a prompt with `FACT`.
"""

import random
import re

TOPICS = {
    "astronomy": "telescope galaxy comet nebula orbit planet eclipse supernova asteroid starlight moon astronomer",
    "cooking": "butter oven dough pepper garlic soup flour saucepan recipe onion vinegar roast",
    "sailing": "harbour mast anchor rudder keel captain schooner tide deck sailor lighthouse reef",
    "medicine": "surgeon fever vaccine patient clinic artery diagnosis antibiotic nurse infection tumour dose",
    "music": "violin sonata choir melody orchestra piano conductor rhythm chord opera flute harmony",
    "law": "judge verdict statute lawsuit attorney plaintiff courtroom appeal testimony contract jury clause",
    "farming": "tractor wheat barley plough cattle harvest orchard soil manure irrigation seedling barn",
    "football": "goalkeeper striker referee penalty stadium midfielder league tackle coach offside corner trophy",
}
NAMES = ("Adler", "Brunt", "Corvin", "Dassel", "Ebers", "Falk", "Gorin", "Hasse", "Ilgner", "Jost", "Kessel", "Lorre")

FACT = re.compile(r"The (\w+) number of (\w+) is (\d+)\.")
"""Matches the sentences of `fact`: topic, name, value."""


def fact(topic: str, number: int, value: int) -> str:
    """A sentence that a question can be about."""
    return f"The {topic} number of {NAMES[number % len(NAMES)]} is {value}."


def document(seed: int, topics: int = 5, paragraphs: int = 6, sentences: int = 4) -> tuple[str, list[str]]:
    """A document of topics x paragraphs paragraphs in random order, and the topic of each paragraph, in order."""
    draw = random.Random(seed)
    chosen = draw.sample(sorted(TOPICS), topics)
    order = [(topic, number) for topic in chosen for number in range(paragraphs)]
    draw.shuffle(order)
    texts = []
    for topic, number in order:
        nouns = TOPICS[topic].split()
        paragraph = [
            f"The {a} and the {b} were near the {c} of the {d}."
            for a, b, c, d in (draw.sample(nouns, 4) for _ in range(sentences))
        ]
        paragraph.insert(draw.randrange(len(paragraph) + 1), fact(topic, number, draw.randrange(100, 1000)))
        texts.append(" ".join(paragraph))
    return "\n\n".join(texts), [topic for topic, _ in order]
