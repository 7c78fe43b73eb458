"""The parts of RULER's generators: token sums, sizes, pools, and draws without lists. Toy texts; no data is fetched."""

import random
import re

import pytest
from support import tiny_bpe

from data_gen.tokenizer import BUILTIN, load_tokenizer
from recipe.longrl.evaluation.benchmarks.ruler_tasks import pools, questions, variable_tracking
from recipe.longrl.evaluation.benchmarks.ruler_tasks.drafts import Draft, Page, Sampler, pieces_of
from recipe.longrl.evaluation.benchmarks.ruler_tasks.pools import Essays, KeyWords, Question, QuestionPool
from recipe.longrl.evaluation.benchmarks.ruler_tasks.sizing import (
    TooShortError,
    largest_size,
    official_size,
    samples_that_fit,
)
from recipe.longrl.evaluation.benchmarks.ruler_tasks.token_sums import TokenSums

TEXT = "Mr. Fox saw 12,345 hens. The hens saw him! Did they run? They did; all of them ran."
TOKENIZERS = {
    "Qwen's BPE": lambda: tiny_bpe.build([TEXT], 400),
    "GPT-2's BPE": lambda: tiny_bpe.build([TEXT, "hens.\n\n\nThe"], 400, tiny_bpe.GPT2_PATTERN),
    "sentencepiece BPE": lambda: load_tokenizer(BUILTIN),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


@pytest.mark.parametrize(
    ("elements", "pieces"),
    [
        (["a", "b"], ["H:\na", " b?"]),
        (["", "b"], ["H:\n", "  b?".removeprefix(" ")]),
        (["a", "", "b"], ["H:\na", "  b?"]),
        (["a ", "b"], ["H:\na", "  b?"]),
        (["a", ""], ["H:\na ?"]),
        ([], ["H:\n?"]),
    ],
)
def test_pieces_join_to_the_text_and_begin_with_their_spaces(elements, pieces):
    made = pieces_of("H:\n", elements, " ", "?")
    assert made == pieces
    assert "".join(made) == "H:\n" + " ".join(elements) + "?"


def test_tokens_of_pieces_add_up_to_those_of_the_text(tokenizer):
    sums = TokenSums(tokenizer)
    elements = [*TEXT.split(" "), "", "1234567", "a-b ", "c"]
    page = Page(pieces_of("Read this.\n", elements, " ", "\nWhat is it?"))
    assert sums.count_page(page, " It is") == sums.count_text(page.text + " It is")
    lines = Page(["Read this.\n", *(f"{sentence}.\n" for sentence in TEXT.split(". ")), "What is it?"])
    assert sums.count_page(lines) == sums.count_text(lines.text)
    documents = Page(["Documents.\n\n", "Document 1:\n", "Mr. Fox ran.\n\n", "Document 2:\n", "12 hens\n\n", "Who?"])
    assert sums.count_page(documents) == sums.count_text(documents.text)


def test_a_tokenizer_whose_tokens_do_not_add_up_is_asked_for_whole_texts(tokenizer):
    sums = TokenSums(tokenizer)
    cut_inside_words = Page(["Mr. Fox sa", "w 12,3", "45 hens"])
    sums.adapt(cut_inside_words)
    assert not sums.adds_up
    assert sums.count_page(cut_inside_words, ".") == sums.count_text("Mr. Fox saw 12,345 hens.")
    sums.adapt(Page(["Mr.", " Fox", " saw"]))
    assert sums.adds_up


class Lines(Sampler):
    """`size` lines of one token each; every third sample has two more."""

    def __init__(self, step=10, shrinks=True):
        self.step, self.shrinks, self.drawn = step, shrinks, []

    def draw(self, size, index):
        self.drawn.append(size)
        extra = 2 if index % 3 == 2 else 0
        return Draft([], "", lambda: Page(["x"] * (size + extra)))


class OneTokenEach:
    """Counts pieces, and which pages it counted."""

    def __init__(self):
        self.counted = []

    def count_page(self, page, suffix=""):
        self.counted.append(len(page.pieces))
        return len(page.pieces)


@pytest.mark.parametrize(("limit", "size"), [(95, 90), (101, 100), (100, 110), (9, 0)])
def test_the_released_search_is_followed_without_counting_small_trials(limit, size):
    # A trial of exactly `limit` tokens ends the search one step too high, as in the released code.
    sampler, sums = Lines(), OneTokenEach()
    assert official_size(sampler, limit, sums) == size
    assert sampler.drawn == list(range(10, sampler.drawn[-1] + 10, 10))
    assert sums.counted[:3] == [10, 20, 40][: len(sums.counted)]


def test_the_largest_size_is_found_by_bisection():
    for limit in (10, 11, 99, 100, 101, 1000):
        sampler = Lines(step=5)
        assert largest_size(sampler, limit, OneTokenEach()) == limit // 5 * 5
        assert len(sampler.drawn) < 25
    assert largest_size(Lines(step=5), 4, OneTokenEach()) == 0


def test_samples_that_do_not_fit_are_drawn_again_one_step_smaller():
    sampler = Lines()
    drawn = list(samples_that_fit(sampler, 100, 100, 3, OneTokenEach()))
    assert [tokens for _, _, tokens in drawn] == [100, 100, 92]
    assert sampler.drawn == [100, 100, 100, 90]
    with pytest.raises(TooShortError, match=r"sample 0: .* more than 5 tokens"):
        next(samples_that_fit(Lines(), 10, 5, 1, OneTokenEach()))
    with pytest.raises(TooShortError):
        next(samples_that_fit(Lines(), 0, 5, 1, OneTokenEach()))


def test_key_words_are_the_sorted_products_without_the_list():
    # "well-" is the beginning of "well-off-", so their words alternate.
    adjectives, nouns = ["well", "well-off", "big", "wet", "wet"], ["zoo", "ant", "owl", "onion"]
    words = KeyWords(adjectives, nouns)
    assert list(words) == sorted({f"{adjective}-{noun}" for adjective in adjectives for noun in nouns})
    assert random.Random(3).choice(words) == random.Random(3).choice(list(words))
    with pytest.raises(IndexError):
        words[len(words)]


@pytest.mark.parametrize("growth", [1, 7, 1000])
def test_sentences_of_the_first_words_are_those_of_that_text(growth, monkeypatch):
    monkeypatch.setattr(pools, "GROWTH", growth)

    def split(text):
        return [match.span() for match in re.finditer(r"\S.*?[.!?](?=\s|$)|\S.+?$", text)]

    essays = Essays(f"{TEXT}\n\n{TEXT}", split)
    whole = f"{TEXT} {TEXT} {TEXT}".split(" ")
    for words in range(len(whole)):
        text = " ".join(whole[:words])
        assert essays.sentences(words) == [text[a:b] for a, b in split(text)]
    assert essays.distinct_words == 2 * len(TEXT.split(" "))


def test_other_documents_are_drawn_as_from_the_list_of_them():
    for seed in range(50):
        documents = 5 + seed
        shown = [*random.Random(seed).sample(range(documents), 4), 0]
        count = min(seed % 7, documents - 5)
        listed = [document for document in range(documents) if document not in shown]
        expected = random.Random(seed + 1).sample(listed, count)
        assert questions.sample_others(random.Random(seed + 1), documents, shown, count) == expected


def make_pool(articles=4, paragraphs=3):
    documents = [f"article {a} paragraph {p}" for a in range(articles) for p in range(paragraphs)]
    asked = []
    for a in range(articles):
        places = list(range(a * paragraphs, (a + 1) * paragraphs))
        for place in places:
            related = [other for other in places if other != place]
            asked.append(Question(f"{place}?", [str(place)], [place], related, f"article {a}"))
    return QuestionPool(asked, documents, {})


@pytest.fixture
def toy_squad(monkeypatch):
    pool = make_pool()
    monkeypatch.setitem(questions.POOLS, "qa_1", lambda: pool)
    monkeypatch.setattr(pools, "hotpotqa", lambda: QuestionPool([], [f"other {n}" for n in range(100)], {}))
    return pool


def test_the_released_order_has_the_gold_document_in_one_place_and_the_repaired_one_anywhere(toy_squad):
    official = questions.OfficialQuestions("qa_1", 42)
    assert len({tuple(official.select(8, index).gold_slots()) for index in range(12)}) == 1
    repaired = questions.RepairedQuestions("qa_1", "name", 42)
    slots = [slot for index in range(12) for slot in repaired.select(8, index).gold_slots()]
    assert len(set(slots)) > 4
    articles = [repaired.select(8, index).question.article for index in range(4)]
    assert len(set(articles)) == 4


def test_every_selection_shows_its_gold_document_and_its_size(toy_squad):
    for sampler in (questions.OfficialQuestions("qa_1", 42), questions.RepairedQuestions("qa_1", "name", 42)):
        for size in (1, 2, 3, 8, 12, 30):
            for index in range(12):
                selection = sampler.select(size, index)
                assert len(selection.documents) == size
                assert selection.gold() <= set(selection.documents)
                assert 0 <= selection.depth() <= 1 or size == 30


def test_too_few_documents_are_repeated_as_released_or_followed_by_others(toy_squad):
    official = questions.OfficialQuestions("qa_1", 42).select(30, 0)
    assert questions.selection_meta(official)["documents_repeated"]
    repaired = questions.RepairedQuestions("qa_1", "name", 42).select(30, 0)
    assert len(set(repaired.documents)) == 30
    assert sum(repaired.pool.documents[place].startswith("other") for place in repaired.documents) == 18


def test_repaired_samples_are_the_same_however_many_follow(toy_squad):
    first = questions.RepairedQuestions("qa_1", "name", 42)
    again = questions.RepairedQuestions("qa_1", "name", 42)
    expected = again.select(8, 5)
    assert [first.select(8, index) for index in range(12)][5] == expected


def test_a_repaired_chain_is_complete_in_order_and_its_names_are_used_once():
    sampler = variable_tracking.RepairedTracking("name")
    for index in range(20):
        draft = sampler.draw(12, index)
        page = draft.render()
        example, _, asked = page.text.partition("they are: ")
        assignments = re.findall(r"VAR (\w+) = (?:VAR )?(\w+)", asked)
        assert [name for name, _ in assignments] == draft.gold
        assert [value for _, value in assignments[1:]] == draft.gold[:-1]
        assert assignments[0][1] in draft.answer_prefix
        assert not set(draft.gold) & set(re.findall(r"VAR (\w+)", example))
        assert 0 <= page.position <= 1
