"""A tokenizer as Qwen's, and real questions with evidence."""

import json

import pytest
from support import hotpot_rows, tiny_bpe
from support.eval_wheels import require_wheels
from verl_longrl.data.prompt_lengths import PromptCounter

from recipe.longrl.evaluation.sources import LONG_CONTEXT_EVAL, read_json


@pytest.fixture(scope="session")
def tokenizer():
    return tiny_bpe.build(hotpot_rows.texts(hotpot_rows.rows(100)), 2000)


@pytest.fixture(scope="session")
def counter(tokenizer):
    return PromptCounter(tokenizer)


@pytest.fixture(scope="session")
def tokenizer_folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def hotpotqa(tmp_path_factory):
    """The first 400 questions of HotpotQA's development set."""
    return write_set(tmp_path_factory, "hotpotqa.json", lambda rows: rows[:400])


@pytest.fixture(scope="session")
def squad(tmp_path_factory):
    """Six questions of each paragraph, four paragraphs of each article of SQuAD's development set: about 400 of them
    can be answered."""

    def choose(data):
        articles = [article | {"paragraphs": article["paragraphs"][:4]} for article in data["data"]]
        for article in articles:
            article["paragraphs"] = [p | {"qas": p["qas"][:6]} for p in article["paragraphs"]]
        return {"data": articles}

    return write_set(tmp_path_factory, "squad.json", choose)


def write_set(tmp_path_factory, name, choose):
    require_wheels(LONG_CONTEXT_EVAL)
    file = tmp_path_factory.mktemp("sets") / name
    file.write_text(json.dumps(choose(read_json(LONG_CONTEXT_EVAL, f"long_context_eval/data/synthetic/json/{name}"))))
    return file
