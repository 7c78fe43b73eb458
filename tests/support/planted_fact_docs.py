"""Documents whose topics are known: paragraphs about one of several things each, in mixed order, each with a fact."""

import random

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


def fact(topic: str, number: int, value: int) -> str:
    """A sentence that a question can be asked about."""
    return f"The {topic} number of {NAMES[number % len(NAMES)]} is {value}."


def document(seed: int, topics: int = 5, paragraphs: int = 6, sentences: int = 4) -> tuple[str, list[str]]:
    """A document of topics x paragraphs paragraphs in random order, and the topic of each paragraph in order."""
    draw = random.Random(seed)
    chosen = draw.sample(sorted(TOPICS), topics)
    order = [(topic, number) for topic in chosen for number in range(paragraphs)]
    draw.shuffle(order)
    texts = []
    for topic, number in order:
        nouns = TOPICS[topic].split()
        said = [
            f"The {a} and the {b} were near the {c} of the {d}."
            for a, b, c, d in (draw.sample(nouns, 4) for _ in range(sentences))
        ]
        said.insert(draw.randrange(len(said) + 1), fact(topic, number, draw.randrange(100, 1000)))
        texts.append(" ".join(said))
    return "\n\n".join(texts), [topic for topic, _ in order]
