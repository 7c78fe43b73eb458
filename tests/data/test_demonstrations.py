"""A demonstration has the tokens of a rollout with its text, and none passes that a scorer would not pay in full.

Marked engine because transformers imports torch.
"""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support import tiny_bpe
from tokenizers.decoders import ByteLevel
from verl_longrl.data.demonstrations import (
    Demonstration,
    DemonstrationEncoder,
    check_demonstrations,
    find_end_of_turn,
    read_demonstrations,
    write_demonstrations,
)
from verl_longrl.data.schema import read_samples
from verl_longrl.data.validate import validate_file
from verl_longrl.rewards import RewardOptions

pytestmark = pytest.mark.engine

GOOD = (
    "Ann owns key 17.</CHUNK_1>\nKey 17 opens door nine.</CHUNK_2>\n</think>\n"
    "<useful_chunks><CHUNK_1><CHUNK_2></useful_chunks>\n<answer>door nine</answer>"
)
SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
    + tiny_bpe.CHAT_TEMPLATE
)
THINK = tiny_bpe.CHAT_TEMPLATE.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
NO_THINK = tiny_bpe.CHAT_TEMPLATE.replace(
    "<|im_start|>assistant\n", "<|im_start|>assistant\n{% if not thinking %}<think>\n\n</think>\n\n{% endif %}"
)
TEMPLATES = {"plain": tiny_bpe.CHAT_TEMPLATE, "adds a system prompt": SYSTEM, "opens think": THINK, "option": NO_THINK}


@pytest.fixture(scope="module")
def bpe():
    tokenizer = tiny_bpe.build([GOOD * 20, "Answer the question. " * 20], vocabulary=400)
    tokenizer.backend_tokenizer.decoder = ByteLevel()
    return tokenizer


@pytest.fixture
def demonstration(make_sample):
    def make(response: str = GOOD, index: int = 0, **changes) -> Demonstration:
        return Demonstration(make_sample(index, **changes), response)

    return make


@pytest.fixture
def file(tmp_path: Path):
    def write(*demonstrations: Demonstration) -> str:
        write_demonstrations(tmp_path / "demos.parquet", demonstrations)
        return str(tmp_path / "demos.parquet")

    return write


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_the_tokens_are_those_of_a_rollout(bpe, demonstration, file, template: str):
    """The prompt by the code with which verl's agent loop builds it."""
    from omegaconf import OmegaConf
    from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder
    from verl_longrl.data.demonstration_dataset import DemonstrationDataset

    bpe.chat_template = template
    kwargs = {"thinking": True}
    made = demonstration()
    prompt = create_continuous_token_builder(bpe, chat_template_kwargs=kwargs).build_initial_tokens(made.sample.prompt)
    response = [*bpe.encode(GOOD, add_special_tokens=False), bpe.convert_tokens_to_ids("<|im_end|>")]
    config = OmegaConf.create(
        {
            "apply_chat_template_kwargs": kwargs,
            "end_of_turn": find_end_of_turn(bpe, None, kwargs),
            "cache_dir": str(Path(file(made)).parent),
        }
    )
    (item,) = DemonstrationDataset(file(made), bpe, config)
    assert item["input_ids"].tolist() == list(prompt) + response
    assert item["loss_mask"].tolist() == [0] * len(prompt) + [1] * len(response)
    assert item["position_ids"].tolist() == list(range(len(prompt) + len(response)))
    assert item["prompts"].tolist() == list(prompt)


@pytest.mark.parametrize(
    ("eos", "generation_eos", "end"),
    [
        ("<|im_end|>", None, "<|im_end|>"),
        # Gemma: the tokenizer ends texts, the generation config also turns.
        ("<|endoftext|>", ["<|endoftext|>", "<|im_end|>"], "<|im_end|>"),
        # Base models: the template's token ends no rollout.
        ("<|endoftext|>", "<|endoftext|>", "<|endoftext|>"),
        (None, "<|im_end|>", "<|im_end|>"),
    ],
)
def test_a_response_ends_as_a_rollout_does(bpe, eos, generation_eos, end: str):
    bpe.chat_template, bpe.eos_token = tiny_bpe.CHAT_TEMPLATE, eos
    ids = generation_eos and bpe.convert_tokens_to_ids(generation_eos)
    assert bpe.convert_ids_to_tokens(find_end_of_turn(bpe, ids)) == end
    bpe.eos_token = "<|im_end|>"


def test_a_model_that_ends_nothing_is_refused(bpe):
    bpe.eos_token = None
    with pytest.raises(ValueError, match=r"no eos_token .* Fix: add one"):
        find_end_of_turn(bpe, None)
    bpe.eos_token = "<|im_end|>"


def test_a_file_is_also_a_data_file(demonstration, file):
    made = [demonstration(index=index, payload={"hops": index}) for index in range(3)]
    path = file(*made)
    assert list(read_demonstrations(path)) == made
    assert list(read_samples(path)) == [each.sample for each in made]
    assert validate_file(path).ok


def test_nothing_is_written_for_no_demonstration(tmp_path: Path):
    with pytest.raises(ValueError, match="no samples to write"):
        write_demonstrations(tmp_path / "demos.parquet", [])
    assert not list(tmp_path.iterdir())


def check(path: str, bpe, **options):
    bpe.chat_template = options.pop("template", tiny_bpe.CHAT_TEMPLATE)
    encoder = DemonstrationEncoder(bpe, find_end_of_turn(bpe, None))
    return check_demonstrations(path, RewardOptions(), encoder=encoder, cache_dir=Path(path).parent, **options)


def test_full_marks_pass(bpe, demonstration, file):
    report = check(file(demonstration()), bpe, max_response_length=500)
    assert report.ok
    assert not report.warnings


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (GOOD.replace("door nine</answer>", "door ten</answer>"), "answer 0; expected 1"),
        (GOOD.replace("<CHUNK_1><CHUNK_2></u", "<CHUNK_1></u"), "context 0.556; expected 1"),
        (GOOD.replace("<answer>", ""), "format_error: </answer> without opening tag"),
        ("", "response = '': expected a text. Fix: drop the row"),
        (GOOD + "<|im_end|>", r"response contains the special token <\|im_end\|>"),
    ],
)
def test_a_flaw_is_named_with_its_row(bpe, demonstration, file, response: str, problem: str):
    path = file(demonstration(), demonstration(response, index=1))
    (line,) = check(path, bpe).problems
    assert line.startswith(f"{path}: row 1: ")
    assert re.search(problem, line)


def test_some_imperfect_ones_may_be_accepted(bpe, demonstration, file):
    half = GOOD.replace("<CHUNK_1><CHUNK_2></u", "<CHUNK_1></u")
    path = file(demonstration(), demonstration(half, index=1), demonstration(half, index=2))
    assert check(path, bpe, max_imperfect=1).problem_count == 2
    report = check(path, bpe, max_imperfect=2)
    assert report.ok
    assert "2 of 3 demonstrations have less than full marks, such as row 1 (context" in report.warnings[0]


def test_what_is_too_long_is_refused_with_its_tokens(bpe, demonstration, file):
    path, tokens = file(demonstration()), len(bpe.encode(GOOD)) + 1
    (line,) = check(path, bpe, max_response_length=tokens - 1).problems
    assert f"row 0: response has {tokens} tokens" in line
    assert f"data.max_response_length = {tokens - 1}" in line
    assert check(path, bpe, max_response_length=tokens).ok
    (line,) = check(path, bpe, max_prompt_length=20).problems
    assert "row 0: prompt_tokens = " in line
    assert "max_prompt_length = 20" in line


def test_reasoning_is_not_opened_twice(bpe, demonstration, file):
    path = file(demonstration("<think>\n" + GOOD))
    assert check(path, bpe).ok
    (line,) = check(path, bpe, template=THINK).problems
    assert "begins with <think>, which the chat template has written" in line


def test_a_file_without_responses_is_named(bpe, write, make_sample):
    path = write([make_sample()])
    assert check(path, bpe).problems == [
        f"{path}: response: column is missing. Fix: make demonstrations with python -m data_gen.demonstrations"
    ]


def test_the_schema_is_that_of_data_files_and_a_response(demonstration, file):
    from verl_longrl.data.schema import SCHEMA

    assert pq.read_schema(file(demonstration())).names == [*SCHEMA.names, "response"]
