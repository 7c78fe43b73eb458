"""qa_1 and qa_2: answer a question of SQuAD or HotpotQA whose paragraphs are hidden among others.

Templates are the released ones (nvidia-long-context-eval 26.3, data/synthetic/constants.py, Apache-2.0).
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from recipe.longrl.evaluation.benchmarks.ruler_tasks import pools
from recipe.longrl.evaluation.benchmarks.ruler_tasks.drafts import Draft, Page, Sampler
from recipe.longrl.evaluation.records import NO_DOCUMENT

MAX_TOKENS = 32
STEP = 10

_ASK = "Answer the question based on the given documents. Only give me the answer and do not output any other words."
_BEGIN = f"{_ASK}\n\nThe following are given documents.\n\n"
_END = f"\n\n{_ASK}\n\nQuestion: {{question}}"
PREFIX = " Answer:"

POOLS: dict[str, Callable[[], pools.QuestionPool]] = {"qa_1": pools.squad, "qa_2": pools.hotpotqa}


class Selection(NamedTuple):
    """A question and the documents shown with it, in order."""

    question: pools.Question
    documents: list[int]
    pool: pools.QuestionPool

    def gold(self) -> set[int]:
        """The documents that hold the answer: SQuAD's paragraph, or those of HotpotQA's supporting facts."""
        return {document for document, _ in self.question.facts} or {self.question.documents[0]}

    def gold_slots(self) -> list[int]:
        """Places of the gold documents."""
        gold = self.gold()
        return [slot for slot, document in enumerate(self.documents) if document in gold]

    def depth(self) -> float:
        """Mean depth of the gold documents, from 0 to 1."""
        slots = self.gold_slots()
        return sum(slots) / (len(slots) * max(len(self.documents) - 1, 1))


class OfficialQuestions(Sampler):
    """Questions in the order of the data set, documents drawn as the released generator does: a fresh generator with
    the same seed shuffles every sample, so the gold document has the same place in all samples of one size.

    Where the data set has too few documents, all are repeated, as RULER's repository does; the package does not.
    """

    step = STEP

    def __init__(self, task: str, seed: int):
        self._pool, self._seed, self._random = POOLS[task](), seed, random.Random(seed)

    def select(self, size: int, index: int) -> Selection:
        question = self._pool.questions[index]
        shown = [*question.documents, *question.related]
        everything = len(self._pool.documents)
        if size >= everything:
            chosen = list(itertools.islice(itertools.cycle(range(everything)), size))
        elif size - len(question.documents) > len(question.related):
            chosen = shown + sample_others(self._random, everything, shown, size - len(shown))
        else:
            related = self._random.sample(question.related, size - len(question.documents))
            chosen = question.documents + related
        random.Random(self._seed).shuffle(chosen)
        return Selection(question, chosen, self._pool)

    def draw(self, size: int, index: int) -> Draft:
        return question_draft(self.select(size, index))


class RepairedQuestions(Sampler):
    """Questions spread over the articles, each sample drawn on its own, the gold document anywhere.

    Where SQuAD has too few paragraphs, paragraphs of HotpotQA follow, so that none is shown twice.
    """

    step = 1

    def __init__(self, task: str, name: str, seed: int):
        self._pool, self._name = POOLS[task](), name
        self._order = spread_over_articles(self._pool.questions, random.Random(f"{task}/{seed}"))

    def select(self, size: int, index: int) -> Selection:
        question = self._pool.questions[self._order[index]]
        generator = random.Random(f"{self._name}/{index}")
        pool, own = self._pool, len(self._pool.documents)
        related = generator.sample(question.related, len(question.related))
        # Gold documents are kept however small the size is; HotpotQA's have two.
        gold = [document for document in question.documents if document in Selection(question, [], pool).gold()]
        near = [document for document in question.documents if document not in gold]
        chosen = [*gold, *near, *related][: max(size, len(gold))]
        shown = [*question.documents, *question.related]
        chosen += sample_others(generator, own, shown, min(size, own) - len(chosen))
        if size > own:
            more = pools.hotpotqa().documents
            pool = pool._replace(documents=pool.documents + more)
            chosen += (own + place for place in generator.sample(range(len(more)), size - own))
        generator.shuffle(chosen)
        return Selection(question, chosen, pool)

    def draw(self, size: int, index: int) -> Draft:
        return question_draft(self.select(size, index))


def spread_over_articles(questions: Sequence[pools.Question], generator: random.Random) -> list[int]:
    """All questions in an order that takes one of each article in turn."""
    by_article: dict[str, list[int]] = {}
    for number in generator.sample(range(len(questions)), len(questions)):
        by_article.setdefault(questions[number].article, []).append(number)
    rounds = itertools.zip_longest(*by_article.values())
    return [number for numbers in rounds for number in numbers if number is not None]


def sample_others(generator: random.Random, documents: int, shown: Sequence[int], count: int) -> list[int]:
    """Documents that are not shown, drawn as random.sample draws from the list of them, without making that list."""
    excluded = sorted(set(shown))
    # The number of documents not shown that lie before each excluded one.
    before = [place - number for number, place in enumerate(excluded)]
    places = generator.sample(range(documents - len(excluded)), max(count, 0))
    return [place + bisect.bisect_right(before, place) for place in places]


def question_draft(selection: Selection) -> Draft:
    """The prompt of a selection."""

    def render() -> Page:
        pieces = [_BEGIN]
        for number, document in enumerate(selection.documents, 1):
            pieces += (f"Document {number}:\n", f"{selection.pool.documents[document]}\n\n")
        pieces[-1] = pieces[-1].removesuffix("\n\n") + _END.format(question=selection.question.text)
        return Page(pieces, selection.depth(), selection_meta(selection))

    question = selection.question
    return Draft(
        question.answers, PREFIX, render, probe=f" {question.answers}", cluster=question.article, selection=selection
    )


def closed_book(selection: Selection) -> tuple[dict[str, str], ...]:
    """The prompt without documents."""
    text = f"{_BEGIN}{NO_DOCUMENT}{_END.format(question=selection.question.text)}"
    return ({"role": "user", "content": text},)


def selection_meta(selection: Selection) -> dict[str, object]:
    """Facts for the row's record."""
    meta: dict[str, object] = {"documents": len(selection.documents), "gold_documents": selection.gold_slots()}
    if len(set(selection.documents)) < len(selection.documents):
        meta["documents_repeated"] = True
    return meta
