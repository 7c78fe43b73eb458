"""Word classes that decide what the words next to an answer do to it, shared by the rules that compare answers.

Most words next to an answer make another answer of it ("vice president of France"). Some never do: function words, the
words of the question, and the nouns that introduce an answer ("the year 1943"). Some always do, even where the question
has them: negations, hedges and bounds.

In the mode `contain`, without a question:

| answer | gold answer | verdict | reason |
|---|---|---|---|
| `It is Paris` | `Paris` | right | function words are harmless |
| `the year 1943` | `1943` | right | a noun that introduces the answer |
| `not Paris` | `Paris` | wrong | a negation |
| `perhaps Paris` | `Paris` | wrong | a hedge |
| `before 1943` | `1943` | wrong | a bound |
| `Paris or Rome` | `Paris` | wrong | a choice is left open |
| `Paris, France` | `Paris` | wrong | another name, which is not in the question |
| `5 + 3` | `5` | wrong | an operator |
| `yes and no` | `yes` | wrong | the opposite of a yes/no answer |
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from verl_longrl.rewards.matching.tokens import FUNCTION_WORDS, is_symbol

POLAR = {"yes": "no", "no": "yes", "true": "false", "false": "true", "是": "否", "否": "是", "对": "错", "错": "对"}
"""Yes/no answers, each with its opposite."""
# fmt: off
DENIALS = {
    "not", "no", "never", "neither", "nor", "none", "nobody", "nothing", "nowhere", "without", "except", "hardly",
    "cant", "isnt", "wasnt", "arent", "dont", "doesnt", "didnt", "non", "wrong", "incorrect", "opposite",
    "不", "没", "无", "非", "未", "勿", "莫",
}
ALTERNATIVES = {"or", "either", "或"}
HEDGES = ALTERNATIVES | {
    "maybe", "perhaps", "possibly", "probably", "presumably", "apparently", "supposedly", "likely", "could", "might",
    "may", "seems", "unknown", "unsure", "unclear",
}
_BOUNDS = {
    "less", "more", "fewer", "than", "least", "most", "over", "under", "above", "below", "before", "after", "until",
    "till", "since", "prior", "up", "nearly", "almost", "half", "twice", "double", "beyond", "between", "against",
    "outside", "near", "around", "超", "过", "多", "少", "近", "约", "前", "后", "半", "副", "前任", "逾",
}
_TIME = re.compile(
    "january|february|march|april|may|june|july|august|september|october|november|december|spring|summer|autumn|winter"
    "|(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:hour|day|night|week|month|year|decade|century)s?|morning|noon|evening"
    "|midnight|yesterday|today|tomorrow"
)
DECISIVE = DENIALS | HEDGES | _BOUNDS
"""Words that are never harmless next to an answer, also where the question has them."""
POINTERS = {
    "answer", "result", "name", "year", "date", "month", "day", "city", "town", "village", "country", "state", "county",
    "province", "island", "number", "total", "amount", "sum", "value", "person", "place", "title", "age", "price",
    "language", "word", "term", "phrase", "statement", "claim", "document", "text", "passage", "article", "context",
    "story", "report", "paragraph", "source", "question", "information", "based", "according", "given", "provided",
    "stated", "mentioned",
    "must", "should", "right", "solution", "okay", "ok", "summary", "conclusion", "conclude", "short", "overall",
    "sure", "well", "response", "reply", "think", "believe", "clearly", "thus", "finally", "indeed",
    "simply", "just", "course", "states", "says", "shows",
    "根", "据", "文", "章", "档", "应", "该", "就",
}
"""Words that introduce an answer and say only of what kind it is, where it was found or that it follows: "the year
1943", "according to the text", "in summary"."""
APPOSITIVES = {
    "city", "town", "village", "country", "state", "county", "province", "island", "year", "month", "name", "title",
    "age", "language", "word", "term", "total", "sum", "amount", "number", "price", "value",
}
"""The nouns after which "of" names the thing itself: "the city of Paris", but not "the result of the war"."""
HONORIFICS = {
    "mr", "ms", "miss", "madame", "lady", "lord", "dame", "chancellor", "minister", "saint", "dr",
    "prof", "professor", "sir", "president", "king", "queen", "emperor", "pope", "general", "captain",
    "colonel", "senator", "先生", "教授", "博士",
}
"""Titles that may be given to a person or left out."""
NAME_SUFFIXES = {"jr", "sr", "phd", "md", "esq"}
"""Endings of a person's name that may be left out."""
AGREEMENT = {"both", "indeed", "certainly", "definitely", "absolutely", "of", "course", "exactly", "right", "的"}
"""Words that may go with a yes or no and add nothing."""
COPULAS = {"is", "are", "was", "were", "be", "been", "equals", "means", "=", "是", "为", "叫"}
"""Words between a subject and the answer about it."""
HARMLESS = FUNCTION_WORDS | COPULAS | {
    "will", "would", "into", "during", "my", "our", "your", "them", "him", "me", "us",
    "also", "whose", "whom", "when", "where", "how", "why", "both", "exactly", "precisely",
    "的", "在", "于", "了", "这", "那", "此", "其", "它", "他", "她", "们", "有", "共", "和", "与", "由", "被",
    "答", "案", "最", "终", "正", "确", "我", "认", "您", "你",
}
HARMLESS -= {"because"}
"""Function words, including those of answers in sentences. They claim nothing. A cause is a claim."""
# fmt: on
_SEPARATORS = re.compile(
    r",(?![0-9]{3}(?![0-9]))|[;|/\n、；，]|(?<!\w)(?:and|&)(?!\w)|(?<=[一-鿿])[和与及]", re.IGNORECASE
)


def is_number_or_time(words: Iterable[str]) -> bool:
    """Whether a number, a date or a word of time is among the words: "by" and "from" make bounds of these."""
    return any(word.removeprefix("-")[:1].isdigit() or _TIME.fullmatch(word) for word in words)


def find_list_separators(text: str) -> list[str]:
    """The signs and words that separate the members of a list in `text`, in order.

    >>> find_list_separators("Alice, Bob and 1,000 others")
    [',', 'and']
    """
    return _SEPARATORS.findall(text.strip())


def split_list(text: str) -> list[str]:
    """The members of a list in `text`, which is the whole text where nothing separates members.

    >>> split_list("Alice, Bob, and Carol")
    ['Alice', 'Bob', 'Carol']
    """
    return [member.strip() for member in _SEPARATORS.split(text) if member.strip()]


def count_content_words(words: Iterable[str]) -> int:
    """The number of tokens that are neither function words nor symbols.

    >>> count_content_words(["the", "capital", "of", "france", "+"])
    2
    """
    return sum(word not in FUNCTION_WORDS and not is_symbol(word) for word in words)


def find_subsequences(words: list[str], run: list[str]) -> list[int]:
    """The indices at which `run` occurs in `words` as consecutive whole tokens.

    >>> find_subsequences(["to", "be", "or", "not", "to", "be"], ["to", "be"])
    [0, 4]
    """
    starts = range(len(words) - len(run) + 1) if run else ()
    return [start for start in starts if words[start] == run[0] and words[start : start + len(run)] == run]
