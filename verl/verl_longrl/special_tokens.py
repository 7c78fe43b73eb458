"""Find special tokens in text: those of a tokenizer, or of the common chat formats where the tokenizer is unknown.

A tokenizer finds its special tokens in raw text. So `<|im_end|>` in a document ends the turn of the conversation in
which the document is shown.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# By family: ChatML (Qwen, Yi) and Kimi; Phi, GLM, gpt-oss; Llama; Mistral; Gemma; DeepSeek; Command R; Granite; others.
_CHAT_TOKENS = """
<|im_start|> <|im_end|> <|im_sep|> <|im_user|> <|im_assistant|> <|im_system|> <|im_middle|> <|endoftext|>
<|system|> <|user|> <|assistant|> <|developer|> <|tool|> <|observation|> <|end|> [gMASK] <sop> <eop>
<|start|> <|message|> <|channel|> <|constrain|> <|return|> <|call|> <|startoftext|>
</s> [INST] [/INST] <<SYS>> <</SYS>> <|begin_of_text|> <|end_of_text|> <|start_header_id|> <|end_header_id|>
<|eot_id|> <|eom_id|> <|eot|> <|eom|> <|header_start|> <|header_end|> <|python_tag|> <|python_start|> <|python_end|>
[SYSTEM_PROMPT] [/SYSTEM_PROMPT] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_CALLS] [TOOL_RESULTS] [/TOOL_RESULTS]
[TOOL_CONTENT]
<bos> <eos> <start_of_turn> <end_of_turn>
<｜begin▁of▁sentence｜> <｜end▁of▁sentence｜> <｜User｜> <｜Assistant｜> <|EOT|>
<BOS_TOKEN> <EOS_TOKEN> <|START_OF_TURN_TOKEN|> <|END_OF_TURN_TOKEN|> <|SYSTEM_TOKEN|> <|USER_TOKEN|> <|CHATBOT_TOKEN|>
<|start_of_role|> <|end_of_role|>
<|human|> <|bot|> <|model|> <|prompter|> <|bos|> <|eos|> <|fim_prefix|> <|fim_middle|> <|fim_suffix|>
"""
CHAT_TOKENS = frozenset(_CHAT_TOKENS.split())
"""Tokens that begin and end texts and turns in the chat formats of common models."""


class SpecialTokenFinder:
    """Finds the first of some tokens in text, at the speed of a search for single characters."""

    def __init__(self, tokens: Iterable[str]):
        by_first_character = defaultdict(list)
        for token in sorted(tokens, key=lambda token: (-len(token), token)):
            by_first_character[token[0]].append(re.escape(token))
        # One pattern for each first character, because a search for a pattern with a fixed beginning is the fast one.
        self._patterns = [re.compile("|".join(tokens)) for tokens in by_first_character.values()]

    @classmethod
    def of_tokenizer(cls, tokenizer: PreTrainedTokenizerBase) -> Self:
        """A finder of a tokenizer's special tokens, without those of one or two characters and those for unknown and
        masked words, which have no effect on a conversation."""
        harmless = {tokenizer.unk_token, tokenizer.mask_token}
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special} - harmless
        return cls(token for token in special if len(token.strip()) > 2)

    def find(self, text: str) -> str | None:
        """One of the tokens in `text`; None when there is none."""
        return next((match[0] for pattern in self._patterns if (match := pattern.search(text))), None)


COMMON = SpecialTokenFinder(CHAT_TOKENS)
