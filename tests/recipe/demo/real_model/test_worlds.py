"""Questions of the experiment: planted facts and HotpotQA's own, with evidence that no two files share."""

import json
import re
from pathlib import Path

import pytest
from support import hotpot_rows

from recipe.longrl.demo.real_model import planted
from recipe.longrl.demo.real_model.worlds import write_hotpotqa


@pytest.fixture
def hotpotqa(tmp_path) -> Path:
    file = tmp_path / "hotpotqa.json"
    file.write_text(json.dumps(hotpot_rows.rows(120)))
    return file


def read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_planted_questions_ask_for_two_facts_of_many(hotpotqa, tmp_path):
    planted.write_questions(hotpotqa, tmp_path / "a.jsonl", questions=30, passages=6, seed="a")
    questions = read(tmp_path / "a.jsonl")
    assert len(questions) == 30
    for question in questions:
        texts = [passage["text"] for passage in question["passages"]]
        assert len(texts) == 6
        for fact in question["evidence"]:
            assert sum(fact in text for text in texts) == 1
        # The members of the answer are in the order of the question.
        places = re.findall(r"of the (\w+)", question["question"])
        values = question["answer"].split(" and ")
        assert [re.findall(r"of the (\w+) is (\d+)", fact) for fact in question["evidence"]] == [
            [pair] for pair in zip(places, values, strict=True)
        ]
        # Every passage has a fact of this kind, so that the kind alone finds nothing.
        kind = question["evidence"][0].split(" of ")[0]
        assert all(text.count(kind) == 1 for text in texts)


def test_planted_questions_follow_the_seed(hotpotqa, tmp_path):
    for name, seed in (("a", "x"), ("b", "x"), ("c", "y")):
        planted.write_questions(hotpotqa, tmp_path / name, questions=5, passages=4, seed=seed)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_hotpotqas_files_share_no_evidence(hotpotqa, tmp_path):
    write_hotpotqa(hotpotqa, tmp_path, {"train": (10, 1), "val": (3, 1), "x2": (2, 2)}, chunks=8)
    seen: set[str] = set()
    for name, rows in (("train", 20), ("val", 6), ("x2", 4)):
        questions = read(tmp_path / f"{name}.jsonl")
        assert len(questions) == rows
        for question in questions:
            titles = {title for title, _ in question["supporting_facts"]}
            assert not titles & seen
            seen |= titles
