"""A slow reader of finished prompts: it knows nothing but the text, and works out what is asked in the plainest way."""

import itertools
import re
from collections import Counter

CLOSING = "\n\n(The text ends here.)\n\n"


def read(content):
    """The passages that a prompt shows, flat (all of the text as one where they have no numbers), and the question."""
    text, _, question = content.partition(CLOSING)
    opening, _, text = text.partition("\n\n")
    if "numbered" in opening:
        parts = re.split(r"(?:\A|\n\n)Passage (\d+):\n", text)
        assert [int(n) for n in parts[1::2]] == list(range(1, len(parts) // 2 + 1))
        passages = parts[2::2]
    else:
        passages = [text]
    return [" ".join(passage.split()) for passage in passages], question


def count(word, text):
    """Occurrences of a word, which must be the same whether one looks for letters or for words."""
    letters = text.casefold().count(word.casefold())
    assert letters == len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE)), word
    return letters


def years(text):
    """Different years in a text, ascending."""
    return sorted({int(year) for year in re.findall(r"(?<!\d)(?:1\d|20)\d\d(?!\d)", text)})


def where(word, passages):
    """Numbers of the passages in which a word or a year stands."""
    inside = (lambda text: word in years(text)) if isinstance(word, int) else (lambda text: count(word, text))
    return [number for number, text in enumerate(passages, 1) if inside(text)]


def answer(kind, content):
    """What the prompt of a task of this kind (task, variant) asks for, in the form of a ground truth."""
    passages, question = read(content)
    asked = question.partition("\n\nThink step by step")[0]
    whole = " ".join(passages)
    words = re.findall(r'"([^"]+)"', asked)
    match kind:
        case "exhaustive", "mention":
            return list(map(str, where(words[0], passages)))
        case "exhaustive", "either":
            return [str(n) for n in range(1, len(passages) + 1) if any(n in where(w, passages) for w in words)]
        case "exhaustive", "without":
            return [str(n) for n in where(words[0], passages) if n not in where(words[1], passages)]
        case "exhaustive", "years":
            return list(map(str, years(whole)))
        case "math", "occurrences":
            return str(count(words[0], whole))
        case "math", "passages":
            return str(len(where(words[0], passages)))
        case "math", "difference":
            return str(count(words[0], whole) - count(words[1], whole))
        case "math", "distance":
            return str(where(words[0], passages)[-1] - where(words[0], passages)[0])
        case "math", "years":
            return str(years(whole)[-1] - years(whole)[0])
        case "qa", "meeting":
            (found,) = set(where(words[0], passages)) & set(where(words[1], passages))
            return str(found)
        case "qa", "most":
            (best, most), (_, second) = Counter({word: count(word, whole) for word in words}).most_common(2)
            assert most > second
            return best
        case "qa", "last":
            return max(words, key=lambda word: whole.casefold().index(word.casefold()))
        case "ranking", "frequency":
            ranked = Counter({word: count(word, whole) for word in words}).most_common()
            assert len({times for _, times in ranked}) == len(ranked)
            return [word for word, _ in ranked[: int(re.search(r"Give the (\d)", asked)[1])]]
        case "table", variant:
            columns = [re.search(r'Its columns: "(\w+)"', asked)[1], "first passage", "last passage", "passages"]
            keys = words[: words.index("word")] if variant == "words" else years(whole)
            found = [(key, where(key, passages)) for key in keys]
            return {"columns": columns, "data": [[key, n[0], n[-1], len(n)] for key, n in found]}
    quotes = dict(re.findall(r"^(S\d): (.+)$", asked, re.MULTILINE))
    match kind:
        case "ordering", _:
            assert all(whole.count(quote) == 1 for quote in quotes.values())
            return sorted(quotes, key=lambda label: whole.index(quotes[label]))
        case "matching", _:
            places = {label: [n for n, p in enumerate(passages, 1) if quote in p] for label, quote in quotes.items()}
            return [f"{label}: {numbers[0]}" for label, numbers in places.items() if len(numbers) == 1]
    raise AssertionError(kind)


def stands_beside(variant, gold, content):
    """Whether a sentence stands in the text where a retrieval prompt asks for one."""
    (text,), question = read(content)
    given = question.split("\n\n")[1]
    assert text.count(given) == 1
    pair = [given, gold] if variant == "after" else [gold, given]
    return " ".join(pair) in text and all(a != b for a, b in itertools.pairwise(pair))
