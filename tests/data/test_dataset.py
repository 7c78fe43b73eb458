"""The data set refuses bad data, never truncates, loses no row silently, yields what verl needs.

verl is imported inside fixtures and tests, so that collecting this file stays light.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from verl_longrl.data.prompt import grounded_prompt
from verl_longrl.data.prompt_lengths import PromptCounter
from verl_longrl.rewards import Score, scorer

pytestmark = pytest.mark.engine


@pytest.fixture
def samples(make_sample):
    """Prompts of growing length, one of each kind of ground truth (a dict is for scorers that want one)."""
    scorer("t_documents", replace=True)(lambda *_: Score(1.0))
    made = [
        make_sample(i, prompt=grounded_prompt(["key " * (i + 1)] * 4, "q"), ref_chunks=[0], ref_chunks_text=None)
        for i in range(10)
    ]
    made[1] = replace(made[1], ground_truth=["a", "b"], payload={"hops": 2})
    made[2] = replace(made[2], data_source="t_documents", ground_truth={"doc_ids": ["d"]})
    return made


@pytest.fixture
def config(tmp_path):
    from omegaconf import OmegaConf

    def make(**changes):
        values = {
            "cache_dir": str(tmp_path / "cache"),
            "prompt_key": "prompt",
            "max_prompt_length": 10_000,
            "filter_overlong_prompts": False,
            "shuffle": True,
            "seed": 1,
            "apply_chat_template_kwargs": {},
            "custom_cls": {"path": "pkg://verl_longrl.data.dataset", "name": "LongRLDataset"},
        }
        return OmegaConf.create(values | changes)

    return make


@pytest.fixture
def LongRLDataset():
    from verl_longrl.data.dataset import LongRLDataset

    return LongRLDataset


@pytest.fixture
def DataError():
    from verl_longrl.data.dataset import DataError

    return DataError


def test_verl_finds_it(config, LongRLDataset):
    from verl.utils.dataset.rl_dataset import get_dataset_class

    assert get_dataset_class(config()) is LongRLDataset


def test_tasks_are_named_as_metrics_name_them(write, make_sample, tokenizer, config, LongRLDataset):
    released = {"doc_ids": ["a", "b"], "golden_label": "", "summary": "English"}
    made = [
        make_sample(0),
        replace(make_sample(1), data_source="selection", ground_truth="A", task=None, ref_chunks=None),
        replace(
            make_sample(2),
            data_source="longbench_pro",
            ground_truth=released,
            task=None,
            ref_chunks=None,
            payload={"reward_mode": "T2.1"},
        ),
    ]
    data = LongRLDataset(write(made), tokenizer, config())
    assert data.tasks() == [made[0].task or "longrlvr", "golongrl_choice", "golongrl_ordering"]


def test_items_hold_what_trainer_and_scorers_need(write, samples, tokenizer, config, LongRLDataset):
    data = LongRLDataset(write(samples), tokenizer, config())
    assert len(data) == 10
    for i in (0, 1, 2):
        item = data[i]
        assert item["raw_prompt"] == samples[i].prompt
        assert item["reward_model"] == {"style": "rule", "ground_truth": samples[i].ground_truth}
        assert item["data_source"] == samples[i].data_source
        assert item["extra_info"]["ref_chunks"] == [0]
        assert "ref_chunks_text" not in item["extra_info"]
        assert (item["index"], type(item["index"])) == (i, int)
        assert (item["tools_kwargs"], item["interaction_kwargs"]) == ({}, {})
        assert "prompt" not in item
    assert data[1]["extra_info"]["hops"] == 2


def test_batches_collate(write, samples, tokenizer, config, LongRLDataset):
    from verl.utils.dataset.rl_dataset import collate_fn

    data = LongRLDataset(write(samples), tokenizer, config())
    batch = collate_fn([data[i] for i in range(4)])
    assert batch["dummy_tensor"].shape == (4, 1)
    assert batch["raw_prompt"].shape == (4,)


def test_batches_become_a_tensordict(write, samples, tokenizer, config, LongRLDataset):
    from verl.utils import tensordict_utils
    from verl.utils.dataset.rl_dataset import collate_fn

    data = LongRLDataset([write(samples)], tokenizer, config())
    batch = tensordict_utils.get_tensordict(collate_fn([data[i] for i in range(4)]))
    assert len(batch) == 4
    assert batch["raw_prompt"][3] == samples[3].prompt


def test_lengths_are_what_the_agent_loop_renders(write, samples, tokenizer, config, LongRLDataset):
    from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

    kwargs = {"thinking": True}
    data = LongRLDataset(write(samples), tokenizer, config(apply_chat_template_kwargs=kwargs))
    builder = create_continuous_token_builder(tokenizer, chat_template_kwargs=kwargs)
    assert data.prompt_lengths.tolist() == [len(builder.build_initial_tokens(s.prompt)) for s in samples]


def test_refuses_a_bad_file_with_its_rows_and_the_command(write, samples, tokenizer, config, LongRLDataset, DataError):
    path = write([replace(s, ref_chunks=[9]) for s in samples * 3])
    with pytest.raises(DataError) as error:
        LongRLDataset(path, tokenizer, config())
    lines = str(error.value).splitlines()
    assert lines[0] == f"{path}: 30 problems; training does not start with invalid data"
    assert lines[1].startswith(f"{path}: row 0: extra_info.ref_chunks = [9]: 9 is out of range")
    assert lines[-1] == f"Show all: python -m verl_longrl.data.validate --max-errors 0 {path}"
    assert len(lines) == 22


def test_refuses_over_long_prompts(write, samples, tokenizer, config, LongRLDataset, DataError):
    counts = PromptCounter(tokenizer).count([s.prompt for s in samples])
    path = write(samples)
    with pytest.raises(DataError) as error:
        LongRLDataset(path, tokenizer, config(max_prompt_length=counts[6]))
    message = str(error.value)
    assert f"{path}: 3 of 10 prompts are longer than data.max_prompt_length={counts[6]} tokens" in message
    assert f"(longest {counts[9]}; rows 7, 8, 9)" in message
    assert "data.filter_overlong_prompts=True" in message


def test_drops_over_long_prompts_and_says_so(write, samples, tokenizer, config, capsys, LongRLDataset):
    counts = PromptCounter(tokenizer).count([s.prompt for s in samples])
    data = LongRLDataset(write(samples), tokenizer, config(max_prompt_length=counts[6], filter_overlong_prompts=True))
    assert [data[i]["index"] for i in range(len(data))] == list(range(7))
    assert data.prompt_lengths.tolist() == counts[:7]
    out = capsys.readouterr().out
    assert "dropped: " in out
    assert "3 of 10 prompts are longer" in out
    assert "data: 7 of 10 samples" in out


def test_refuses_to_be_empty(write, samples, tokenizer, config, LongRLDataset, DataError):
    with pytest.raises(DataError, match="no prompt fits"):
        LongRLDataset(write(samples), tokenizer, config(max_prompt_length=3, filter_overlong_prompts=True))


def test_files_of_different_origin_train_together(tmp_path, write, samples, tokenizer, config, LongRLDataset):
    released = [
        {
            "prompt": samples[0].prompt,
            "data_source": "longrlvr",
            "reward_model": {"ground_truth": "x"},
            "extra_info": {"question": "q", "ref_chunks": [i], "ref_chunks_text": ["key"], "note": "n"},
            "context": "c",
        }
        for i in range(4)
    ]
    pq.write_table(pa.Table.from_pylist(released), tmp_path / "released.parquet")
    data = LongRLDataset([write(samples), str(tmp_path / "released.parquet")], tokenizer, config())
    assert len(data) == 14
    item = data[13]
    assert item["index"] == 3
    assert item["extra_info"]["ref_chunks"] == [3]
    assert item["extra_info"]["note"] == "n"
    assert item["reward_model"]["ground_truth"] == "x"


def test_files_with_indices_of_any_type_train_together(tmp_path, write, samples, tokenizer, config, LongRLDataset):
    files = [write(samples)]
    for number, index in enumerate(["train-7", 7.0, 0.5]):
        row = {
            "prompt": [{"role": "user", "content": "key"}],
            "data_source": "loongrl_qa",
            "reward_model": {"ground_truth": "x"},
            "extra_info": {"index": index},
        }
        files.append(str(tmp_path / f"{number}.parquet"))
        pq.write_table(pa.Table.from_pylist([row]), files[-1])
    data = LongRLDataset(files, tokenizer, config())
    indices = [(item["index"], item["extra_info"].get("original_index")) for item in (data[10], data[11], data[12])]
    assert indices == [(0, "train-7"), (7, None), (0, 0.5)]


def test_a_rewritten_file_is_read_anew(write, samples, tokenizer, config, LongRLDataset):
    path = write(samples)
    LongRLDataset(path, tokenizer, config())
    write(samples[::-1])
    assert LongRLDataset(path, tokenizer, config())[0]["index"] == 9


def test_max_samples_is_seeded(write, samples, tokenizer, config, LongRLDataset):
    path = write(samples)
    picks = [
        [item["index"] for item in (data[i] for i in range(4))]
        for data in (LongRLDataset(path, tokenizer, config(), max_samples=4) for _ in range(2))
    ]
    assert picks[0] == picks[1]
    first = LongRLDataset(path, tokenizer, config(shuffle=False), max_samples=4)
    assert [first[i]["index"] for i in range(4)] == [0, 1, 2, 3]


def test_pickles(write, samples, tokenizer, config, LongRLDataset):
    data = LongRLDataset(write(samples), tokenizer, config())
    again = pickle.loads(pickle.dumps(data))
    assert again[9].keys() == data[9].keys()
    assert again[9]["raw_prompt"] == samples[9].prompt


def test_the_users_own_scorers_are_loaded(tmp_path, write, samples, tokenizer, config, LongRLDataset, DataError):
    module = tmp_path / "mine.py"
    module.write_text("from verl_longrl.rewards import Score, scorer\nscorer('t_of_a_user')(lambda *_: Score(1.0))\n")
    path = write([replace(s, data_source="t_of_a_user") for s in samples])
    with pytest.raises(
        DataError, match=r"data_source = 't_of_a_user': no scorer has this name.*longrl\.reward\.scorers in a run"
    ):
        LongRLDataset(path, tokenizer, config())
    data = LongRLDataset(path, tokenizer, config(scorers=[str(module)]))
    assert data[0]["data_source"] == "t_of_a_user"
    bad = write([replace(s, data_source="t_other") for s in samples])
    with pytest.raises(DataError, match=rf"--max-errors 0 --scorers {module} {bad}$"):
        LongRLDataset(bad, tokenizer, config(scorers=[str(module)]))
    with pytest.raises(ImportError, match=r"'gone\.py': no such file"):
        LongRLDataset(bad, tokenizer, config(scorers=["gone.py"]))


def test_a_row_without_index_has_its_number_in_its_file(write, samples, tokenizer, config, LongRLDataset):
    counts = PromptCounter(tokenizer).count([s.prompt for s in samples])
    numbered = write(samples[:3], "numbered.parquet")
    unnumbered = write([replace(s, index=None) for s in samples[::-1]])  # long prompts first
    shorter = config(max_prompt_length=counts[6], filter_overlong_prompts=True)
    data = LongRLDataset([numbered, unnumbered], tokenizer, shorter)
    items = [data[i] for i in range(len(data))]
    assert [item["index"] for item in items] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [item["extra_info"]["index"] for item in items] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert items[3]["raw_prompt"] == samples[6].prompt


def test_items_are_json(write, samples, tokenizer, config, LongRLDataset):
    """They are sent between processes and written to the rollout log."""
    item = LongRLDataset(write(samples), tokenizer, config())[1]
    del item["dummy_tensor"]
    assert json.loads(json.dumps(item)) == item
