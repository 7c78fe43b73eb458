"""A logged prompt is matched with its row by index and ground truth, and by its question where those are not unique."""

from pathlib import Path

from verl_longrl.data.logged_rows import match_prompts
from verl_longrl.data.schema import Sample, write_samples


def sample(index: int, gold: str, question: str, source: str = "loongrl_qa") -> Sample:
    prompt = [{"role": "user", "content": question}]
    return Sample(data_source=source, prompt=prompt, ground_truth=gold, index=index, question=question)


def test_rows_of_two_files_with_one_index_and_answer_are_told_apart_by_their_question(tmp_path: Path):
    bridge, tower = sample(0, "yes", "Is the bridge old?"), sample(0, "yes", "Is the tower old?", source="math")
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for file, row in zip(files, (bridge, tower), strict=True):
        write_samples(file, [row])
    prompts = [
        {"prompt": "1", "text": "user: Is the tower old?", "index": 0, "ground_truth": "yes"},
        {"prompt": "2", "text": "user: Is the church old?", "index": 0, "ground_truth": "yes"},
        {"prompt": "3", "text": "user: Is the bridge old?", "index": 1, "ground_truth": "yes"},
    ]
    matched = match_prompts(prompts, files)
    assert {key: row.data_source for key, row in matched.items()} == {"1": "math"}
    assert (matched["1"].file, matched["1"].number) == (str(files[1]), 0)
    # As logs have it since prompts are stored in parts.
    for prompt in prompts:
        prompt["question"] = prompt.pop("text").removeprefix("user: ")
    assert match_prompts(prompts, files) == matched


def test_equal_rows_are_told_apart_by_their_place_unless_they_have_moved(tmp_path: Path):
    files = [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    for file in files:
        write_samples(file, [sample(0, "yes", "Is it old?"), sample(0, "yes", "Is it old?")])
    prompt = {"prompt": "1", "index": 0, "ground_truth": "yes", "question": "Is it old?", "file": files[1], "row": 1}
    (row,) = match_prompts([prompt], files).values()
    assert (row.file, row.number) == (files[1], 1)
    assert match_prompts([{**prompt, "file": "gone.parquet"}], files) == {}
