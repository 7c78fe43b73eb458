"""A word-level tokenizer for the demo worlds: one token per word, tag, chunk id and chain key.

The tags of a response (`<CHUNK_7>`, `<answer>`, ...) are ordinary words, so decoding with `skip_special_tokens=True`
keeps them and the reward parser sees the response as written. Newlines are kept, other white space is not:
`decode(encode(text))` has exactly one space between tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Sequence, Split
from transformers import PreTrainedTokenizerFast

from recipe.longrl.demo.words import KEYS, SIGHTS, SPEAKERS, VALUES, VERBS

MAX_CHUNKS = 64
PAD, EOS, START, UNKNOWN = "<|pad|>", "<|im_end|>", "<|im_start|>", "<|unknown|>"
TAGS = ("<think>", "</think>", "<useful_chunks>", "</useful_chunks>", "<answer>", "</answer>")
SPACE = r"(?<!\":)[^\S\n]+"
TOKEN = r"\n|<\|\w+\|>|</?\w+>|\\boxed\{|\{\"|\": \"|\"\}\.|\w+|[^\w\s]"
"""\\boxed{ and the punctuation of a chain's pair are single tokens, as frequent strings are in byte-pair encodings."""
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + ' ' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant <think>' }}{% endif %}"
)


def vocabulary(texts: Iterable[str] = ()) -> list[str]:
    """All tokens in the order of their ids: special tokens, tags, chunk ids, common words, new words of `texts`."""
    split = _pre_tokenizer()
    # verl expects the newline of a Qwen model to be one token.
    words = [PAD, EOS, START, UNKNOWN, "\n", *TAGS]
    words += [f"<{slash}CHUNK_{i}>" for slash in ("", "/") for i in range(MAX_CHUNKS)]
    words += [*KEYS, *VALUES, *SPEAKERS, *VERBS, *SIGHTS]
    words += ["system", "user", "assistant", "colors", "of", "done", "-", "?", ".", ":"]
    words += [piece for text in texts for piece, _ in split.pre_tokenize_str(text)]
    return list(dict.fromkeys(words))


def build_tokenizer(texts: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """Build the tokenizer; `texts` (such as the prompt's fixed wording) add their words to the vocabulary."""
    ids = {word: index for index, word in enumerate(vocabulary(texts))}
    tokenizer = Tokenizer(WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = _pre_tokenizer()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        additional_special_tokens=[START],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _pre_tokenizer() -> Sequence:
    return Sequence([Split(Regex(SPACE), "removed"), Split(Regex(TOKEN), "isolated")])
