"""Break up special tokens in documents, so that no text can end a turn of the conversation in which it is shown.

A tokenizer finds its added tokens in raw text. So `<|im_end|>` in a document would become the token with which the chat
template ends a turn. With a space in it (`< |im_end|>`) it is ordinary text, and still the same to readers and scorers.
All special tokens are broken up, those of other common chat formats too (the data may train another model), and those
other added tokens that are written in angle or square brackets, such as Qwen's `<tool_call>`. Words and runs of white
space that were added to a vocabulary are left as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from verl_longrl.special_tokens import CHAT_TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK = re.compile(r"<.+>|\[.+\]", re.DOTALL)
_INSIDE = re.compile(r"(?<=\S)(?=\S)")


class SpecialTokens:
    """Breaks up the special tokens of a fast tokenizer, and those of common chat formats, in text.

    Not covered: tokens of one character, and spellings that become a token only through the tokenizer's normaliser.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
        tokens = {token.content for token in added if token.special or _MARK.fullmatch(token.content)} | CHAT_TOKENS
        breakable = sorted(filter(_INSIDE.search, tokens), key=lambda content: (-len(content), content))
        self._pattern = re.compile("|".join(map(re.escape, breakable)))

    def break_up(self, text: str) -> str:
        """The text with a space after the first character of each special token."""
        # Repeated, because overlapping tokens, and new ones, may remain after one pass.
        while self._pattern.search(text):
            text = self._pattern.sub(_broken, text)
        return text


def follow_spans(before: str, after: str, spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of a text as spans of what `break_up` made of it."""
    spans = list(spans)
    if before == after or not spans:
        return spans
    # A space is only ever inserted between two characters that are not white space, so it is never one of `before`.
    places: list[int] = []
    at = 0
    for character in before:
        while after[at] != character:
            at += 1
        places.append(at)
        at += 1
    return [(places[start], places[end - 1] + 1) for start, end in spans]


def _broken(token: re.Match[str]) -> str:
    return _INSIDE.sub(" ", token[0], count=1)
