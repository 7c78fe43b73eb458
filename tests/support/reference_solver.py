"""A reader of finished prompts that stands for a careful human: it solves a task from the prompt's text alone.

It shares no code with the task functions and works as plainly as possible, so where it and a task function agree, the
question says what was computed. It asserts what a question takes for granted, such as that there are no ties.
"""

import itertools
import re
from collections import Counter

CLOSING = "\n\n(The text ends here.)\n\n"


def read_prompt(content):
    """The passages that a prompt shows (one, if they have no numbers), each on one line, and the question."""
    text, _, question = content.partition(CLOSING)
    opening, _, text = text.partition("\n\n")
    if "numbered" in opening:
        parts = re.split(r"(?:\A|\n\n)Passage (\d+):\n", text)
        assert [int(n) for n in parts[1::2]] == list(range(1, len(parts) // 2 + 1))
        passages = parts[2::2]
    else:
        passages = [text]
    return [" ".join(passage.split()) for passage in passages], question


def count_word(word, text):
    """Occurrences of a word, which must be the same whether one looks for letters or for words."""
    letters = text.casefold().count(word.casefold())
    assert letters == len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE)), word
    return letters


def years_in(text):
    """Different years in a text, ascending."""
    return sorted({int(year) for year in re.findall(r"(?<!\d)(?:1\d|20)\d\d(?!\d)", text)})


def passages_with(mention, passages):
    """Numbers of the passages that mention a word, or a year (an int)."""
    if isinstance(mention, int):
        return [number for number, text in enumerate(passages, 1) if mention in years_in(text)]
    return [number for number, text in enumerate(passages, 1) if count_word(mention, text)]


def solve_prompt(kind, content):
    """The answer to the prompt of a (task, variant), in the form of a ground truth."""
    passages, question = read_prompt(content)
    question = question.partition("\n\nThink step by step")[0]
    whole = " ".join(passages)
    words = re.findall(r'"([^"]+)"', question)
    match kind:
        case "exhaustive", "mention":
            return list(map(str, passages_with(words[0], passages)))
        case "exhaustive", "either":
            return [str(n) for n in range(1, len(passages) + 1) if any(n in passages_with(w, passages) for w in words)]
        case "exhaustive", "without":
            without = passages_with(words[1], passages)
            return [str(n) for n in passages_with(words[0], passages) if n not in without]
        case "exhaustive", "years":
            return list(map(str, years_in(whole)))
        case "math", "occurrences":
            return str(count_word(words[0], whole))
        case "math", "passages":
            return str(len(passages_with(words[0], passages)))
        case "math", "difference":
            return str(count_word(words[0], whole) - count_word(words[1], whole))
        case "math", "distance":
            numbers = passages_with(words[0], passages)
            return str(numbers[-1] - numbers[0])
        case "math", "years":
            return str(years_in(whole)[-1] - years_in(whole)[0])
        case "qa", "meeting":
            (number,) = set(passages_with(words[0], passages)) & set(passages_with(words[1], passages))
            return str(number)
        case "qa", "most":
            (best, most), (_, second) = Counter({word: count_word(word, whole) for word in words}).most_common(2)
            assert most > second
            return best
        case "qa", "last":
            return max(words, key=lambda word: whole.casefold().index(word.casefold()))
        case "ranking", "frequency":
            ranked = Counter({word: count_word(word, whole) for word in words}).most_common()
            assert len({times for _, times in ranked}) == len(ranked)
            return [word for word, _ in ranked[: int(re.search(r"Which (\d) of these words", question)[1])]]
        case "table", variant:
            columns = [re.search(r'The columns are "(\w+)"', question)[1], "first passage", "last passage", "passages"]
            keys = words[: words.index("word")] if variant == "words" else years_in(whole)
            numbers = [(key, passages_with(key, passages)) for key in keys]
            return {"columns": columns, "data": [[key, n[0], n[-1], len(n)] for key, n in numbers]}
    quotes = dict(re.findall(r"^(S\d): (.+)$", question, re.MULTILINE))
    match kind:
        case "ordering", _:
            assert all(whole.count(quote) == 1 for quote in quotes.values())
            return sorted(quotes, key=lambda label: whole.index(quotes[label]))
        case "matching", _:
            places = {label: [n for n, p in enumerate(passages, 1) if quote in p] for label, quote in quotes.items()}
            return [f"{label}: {numbers[0]}" for label, numbers in places.items() if len(numbers) == 1]
    raise AssertionError(kind)


def is_adjacent(variant, gold, content):
    """Whether a sentence is directly after, or before, the one that a retrieval prompt quotes."""
    (text,), question = read_prompt(content)
    quote = question.split("\n\n")[1]
    assert text.count(quote) == 1
    pair = [quote, gold] if variant == "after" else [gold, quote]
    return " ".join(pair) in text and all(a != b for a, b in itertools.pairwise(pair))
