"""Sources of every layout, long and short, and a tokenizer that counts them."""

import json
from pathlib import Path

import pytest
from support import tiny_bpe
from verl_longrl.data.prompt_lengths import PromptCounter
from verl_longrl.data.schema import Sample, write_samples

KEYCHAIN, DAPO, MATHQA, PLAIN = 300, 90, 60, 40
LONG_WORDS = 400
DAPO_PROMPT = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.\n\n{}\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)


def keychain(number):
    """A long row; a few are much longer than the others."""
    words = " ".join(f"passage {number} word {i}" for i in range(LONG_WORDS * (5 if number % 50 == 7 else 1)))
    return Sample(
        data_source="loongrl_keychain",
        prompt=[{"role": "user", "content": f"{words}\n\nFollow the key."}],
        ground_truth=[f"Answer {number}"],
        index=number,
        question=f"Who wrote the book that is number {number} among all of those on the shelf?",
        task="loongrl_keychain",
        payload={"source": f"hotpot.json: row {number}", "keys": ["a", "b"]},
    )


def dapo(number):
    problem = f"Find the sum of {number} and {number + 1}, then double it."
    return {
        "data_source": "math_dapo",
        "prompt": [{"role": "user", "content": DAPO_PROMPT.format(problem)}],
        "reward_model": {"ground_truth": str(4 * number + 2), "style": "rule"},
        "extra_info": {"index": f"{number:x}-uuid"},
    }


def mathqa(number):
    choices = " , ".join(f"{letter} ) {number + i}" for i, letter in enumerate("abcde"))
    return {"Problem": f"a shop sold {number} cups . what now ?", "options": choices, "correct": "abcde"[number % 5]}


@pytest.fixture(scope="session")
def tokenizer():
    texts = [keychain(1).prompt[0]["content"][:2000], DAPO_PROMPT, json.dumps(mathqa(3))]
    return tiny_bpe.build(texts, 400)


@pytest.fixture(scope="session")
def files(tmp_path_factory, tokenizer) -> Path:
    """A folder with a file of each kind, some of whose rows cannot be used, and the tokenizer."""
    folder = tmp_path_factory.mktemp("sources")
    tokenizer.save_pretrained(folder / "tokenizer")
    counter = PromptCounter(tokenizer)
    counted = []
    for sample in map(keychain, range(KEYCHAIN)):
        (tokens,) = counter.count([sample.prompt])
        values = vars(sample) | {"prompt_tokens": tokens, "tokenizer_fingerprint": counter.fingerprint}
        counted.append(Sample(**values))
    write_samples(folder / "keychain" / "train.parquet", counted)
    plain = [
        Sample(**vars(keychain(KEYCHAIN + number)) | {"data_source": "loongrl_qa", "task": ""})
        for number in range(PLAIN)
    ]
    write_samples(folder / "plain" / "train.parquet", [*plain, counted[0]])  # the last one is keychain's too

    rows = [dapo(number) for number in range(DAPO)]
    rows += [*rows[:30], dapo(7) | {"reward_model": {"ground_truth": ""}}]
    (folder / "dapo.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [mathqa(number) for number in range(MATHQA)]
    rows += [mathqa(0) | {"correct": "x"}, mathqa(1) | {"options": ""}, mathqa(2) | {"Problem": " "}]
    (folder / "mathqa.json").write_text(json.dumps(rows))
    (folder / "benchmark.jsonl").write_text(json.dumps({"question": keychain(5).question}) + "\n")
    return folder
