"""A tiny world: four chunks, one question, and a word-level tokenizer with a chat template."""

from __future__ import annotations

import copy

import pytest
from verl_longrl.data.prompt import grounded_prompt
from verl_longrl.data.schema import Sample, write_samples

CHUNKS = ["The sky is blue.", "Ann owns key 17.", "Key 17 opens door nine.", "Grass is green."]
TEMPLATE = (
    "{% for m in messages %}<s> {{ m['role'] }} {{ m['content'] }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<s> assistant{% if thinking %} <think>{% endif %}{% endif %}"
)


@pytest.fixture
def make_sample():
    def make(index: int = 0, **changes) -> Sample:
        values = {
            "data_source": "longrlvr",
            "prompt": grounded_prompt(CHUNKS, "Which door can Ann open?"),
            "ground_truth": "door nine",
            "index": index,
            "task": "longrlvr",
            "question": "Which door can Ann open?",
            "ref_chunks": [1, 2],
            "ref_chunks_text": [CHUNKS[1], CHUNKS[2]],
            "num_chunks": 4,
        }
        return Sample(**(values | changes))

    return make


@pytest.fixture
def make_row(make_sample):
    """A row as parquet readers return it, which tests may break."""
    return lambda: copy.deepcopy(make_sample().to_row())


@pytest.fixture
def write(tmp_path):
    def to_file(samples, name: str = "data.parquet") -> str:
        write_samples(tmp_path / name, samples)
        return str(tmp_path / name)

    return to_file


@pytest.fixture
def tokenizer():
    import tokenizers
    import transformers

    words = [
        "<unk>",
        "<s>",
        "</s>",
        "<think>",
        "user",
        "system",
        "assistant",
        "the",
        "key",
        "door",
        "ann",
        "sky",
        "is",
        "17",
        "nine",
    ]
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    )
    backend.normalizer = tokenizers.normalizers.Lowercase()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        chat_template=TEMPLATE,
    )
