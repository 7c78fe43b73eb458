"""The real texts that RULER's tasks are made from, as the released generator reads them; read once and kept."""

from __future__ import annotations

import bisect
import functools
import io
import itertools
import random
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from recipe.longrl.evaluation import sources

_JSON = "long_context_eval/data/synthetic/json"
_SENTENCE_MODEL = "llama_index/core/_static/nltk_cache/tokenizers/punkt_tab/english"
SYLLABLES = 3
GROWTH = 1 << 14
"""Words of the essays that are split into sentences at a time."""


class KeyWords(Sequence[str]):
    """All "adjective-noun" of wonderwords, sorted, without the 6 million strings in memory."""

    def __init__(self, adjectives: Iterable[str], nouns: Iterable[str]):
        self._nouns = sorted(set(nouns))
        groups: list[list[str]] = []
        for beginning in sorted({f"{adjective}-" for adjective in adjectives}):
            # The words of "far-" and "far-off-" alternate in the sorted order, so they are sorted together.
            if groups and beginning.startswith(groups[-1][0]):
                groups[-1].append(beginning)
            else:
                groups.append([beginning])
        self._groups = groups
        self._starts = [0, *itertools.accumulate(len(group) * len(self._nouns) for group in groups)]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, place: Any) -> Any:
        number = bisect.bisect_right(self._starts, place) - 1
        group, place = self._groups[number], place - self._starts[number]
        return group[0] + self._nouns[place] if len(group) == 1 else self._sorted_group(number)[place]

    @functools.cache  # noqa: B019  one object for the whole process
    def _sorted_group(self, number: int) -> list[str]:
        return sorted(beginning + noun for beginning in self._groups[number] for noun in self._nouns)


def _word_list(name: str) -> list[str]:
    text = sources.read_member(sources.WONDERWORDS, f"wonderwords/assets/{name}.txt").decode()
    return [line.rstrip() for line in io.StringIO(text, newline=None)]


@functools.cache
def key_words() -> KeyWords:
    """The keys of needles."""
    return KeyWords(_word_list("adjectivelist"), _word_list("nounlist"))


@functools.cache
def list_words() -> tuple[str, ...]:
    """The 8,166 distinct nouns, adjectives and verbs that cwe lists, sorted."""
    return tuple(sorted({word for name in ("nounlist", "adjectivelist", "verblist") for word in _word_list(name)}))


@functools.cache
def made_words() -> tuple[str, ...]:
    """343,000 further words for lists that need more than wonderwords has, the same ones everywhere.

    Three syllables, each of a consonant and a vowel, such as "kilano", in a fixed random order. The released generator
    reads a list of English words here, which its package does not ship.
    """
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words = ["".join(parts) for parts in itertools.product(syllables, repeat=SYLLABLES)]
    random.Random(0).shuffle(words)
    real = set(list_words())
    return tuple(word for word in words if word not in real)


class Essays:
    """Paul Graham's essays as words, and their sentences up to any word; repeated when they are not long enough."""

    def __init__(self, text: str, split: Callable[[str], Iterable[tuple[int, int]]]):
        self._once = re.sub(r"\s+", " ", text).split(" ")
        self._split = split
        self._text = ""
        self._spans: list[tuple[int, int]] = []
        self._ends: list[int] = []

    @property
    def distinct_words(self) -> int:
        return len(self._once)

    def sentences(self, words: int) -> list[str]:
        """Sentences of the first `words` words, as NLTK splits that text."""
        while words > len(self._ends):
            self._grow()
        if not words:
            return []
        text, end = self._text, self._ends[words - 1]
        whole = self._unchanged(bisect.bisect_left(self._spans, end, key=lambda span: span[1]))
        begin = self._spans[whole][0]
        kept = [text[a:b] for a, b in self._spans[:whole]]
        return kept + [text[begin + a : begin + b] for a, b in self._split(text[begin:end].rstrip())]

    @staticmethod
    def _unchanged(sentences: int) -> int:
        """How many of a text's first sentences stay the same when the text is cut or continued after them. Whether a
        full stop ends a sentence depends on the words next to it, so only the last sentences can change."""
        return max(sentences - 2, 0)

    def _grow(self) -> None:
        """Add words, and split them only: NLTK gives up on a text that takes it more than five seconds."""
        first = len(self._ends)
        words = [self._once[place % len(self._once)] for place in range(first, first + GROWTH)]
        self._text += " " * bool(first) + " ".join(words)
        last_end = self._ends[-1] if first else -1
        self._ends += (last_end + length for length in itertools.accumulate(len(word) + 1 for word in words))
        whole = self._unchanged(len(self._spans))
        begin = self._spans[whole][0] if self._spans else 0
        self._spans[whole:] = [(begin + a, begin + b) for a, b in self._split(self._text[begin:])]


@functools.cache
def essays() -> Essays:
    """The haystack of the essay tasks."""
    text = sources.read_json(sources.LONG_CONTEXT_EVAL, f"{_JSON}/PaulGrahamEssays.json")["text"]
    return Essays(text, sentence_spans())


@functools.cache
def sentence_spans() -> Callable[[str], Iterable[tuple[int, int]]]:
    """NLTK's English sentence splitter, as `sent_tokenize` uses it."""
    from nltk.tabdata import PunktDecoder
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    def lines(name: str) -> io.StringIO:
        return io.StringIO(sources.read_member(sources.SENTENCE_MODEL, f"{_SENTENCE_MODEL}/{name}").decode())

    decoder, parameters = PunktDecoder(), PunktParameters()
    parameters.collocations = set(decoder.tab2tups(lines("collocations.tab")))
    parameters.sent_starters = decoder.txt2set(lines("sent_starters.txt"))
    parameters.abbrev_types = decoder.txt2set(lines("abbrev_types.txt"))
    parameters.ortho_context = decoder.tab2intdict(lines("ortho_context.tab"))
    splitter = PunktSentenceTokenizer()
    splitter._params = parameters
    return splitter.span_tokenize


class Question(NamedTuple):
    """A question about documents, which are places in the pool's list."""

    text: str
    answers: list[str]
    documents: list[int]
    """The documents that are always shown; the first one is SQuAD's paragraph."""
    related: list[int]
    """SQuAD's other paragraphs of the article, which are shown before unrelated ones."""
    article: str
    facts: list[tuple[int, int]] = []  # noqa: RUF012  never changed
    """HotpotQA's supporting facts: (document, sentence)."""


class QuestionPool(NamedTuple):
    """Questions and all documents of a data set. sentences: of each document, where the data set splits them."""

    questions: list[Question]
    documents: list[str]
    sentences: dict[int, list[str]]


@functools.cache
def squad() -> QuestionPool:
    """The answerable questions of SQuAD 2.0's development set."""
    articles = sources.read_json(sources.LONG_CONTEXT_EVAL, f"{_JSON}/squad.json")["data"]
    documents = sorted({paragraph["context"] for article in articles for paragraph in article["paragraphs"]})
    places = {document: place for place, document in enumerate(documents)}
    questions = []
    for article in articles:
        shown = [places[paragraph["context"]] for paragraph in article["paragraphs"]]
        for paragraph in article["paragraphs"]:
            place = places[paragraph["context"]]
            related = [other for other in shown if other != place]
            for entry in paragraph["qas"]:
                if not entry["is_impossible"]:
                    answers = [answer["text"] for answer in entry["answers"]]
                    questions.append(Question(entry["question"], answers, [place], related, article["title"]))
    return QuestionPool(questions, documents, {})


@functools.cache
def hotpotqa() -> QuestionPool:
    """The questions of HotpotQA's development set (distractor setting)."""
    rows = sources.read_json(sources.LONG_CONTEXT_EVAL, f"{_JSON}/hotpotqa.json")
    texts = [
        [(title, f"{title}\n{''.join(sentences)}", sentences) for title, sentences in row["context"]] for row in rows
    ]
    documents = sorted({text for shown in texts for _, text, _ in shown})
    places = {document: place for place, document in enumerate(documents)}
    sentences = {places[text]: split for shown in texts for _, text, split in shown}
    questions = []
    for number, (row, shown) in enumerate(zip(rows, texts, strict=True)):
        by_title = {title: places[text] for title, text, _ in shown}
        facts = [(by_title[title], sentence) for title, sentence in row["supporting_facts"]]
        # A few facts of the data set name a sentence that its document does not have.
        facts = [(place, sentence) for place, sentence in facts if sentence < len(sentences[place])]
        documents_shown = [places[text] for _, text, _ in shown]
        questions.append(Question(row["question"], [row["answer"]], documents_shown, [], f"hotpotqa/{number}", facts))
    return QuestionPool(questions, documents, sentences)
