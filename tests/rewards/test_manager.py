"""The reward manager as verl calls it: one flat set of keys for every sample, and no exception."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from verl_longrl.rewards import METRIC_KEYS, PART_KEYS

pytestmark = pytest.mark.engine
MINE = str(Path(__file__).parent / "my_scorers.py")
RIGHT = "<useful_chunks><CHUNK_1></useful_chunks><answer>Paris</answer>"
TEXT = {"task", "status", "reason", "own_parts", "cited_ids", "judge"}


class Tokenizer:
    """One token per character."""

    def decode(self, ids, skip_special_tokens):
        return "".join(map(chr, ids.tolist()))


def config(num_workers=1, judge=None, **reward):
    longrl = {"output_dir": "o", "reward": {"scorers": [MINE], "workers": 1, **reward}, "judge": judge or {}}
    data = {"max_response_length": 100}
    return OmegaConf.create({"longrl": longrl, "reward": {"num_workers": num_workers}, "data": data})


@pytest.fixture(scope="module")
def manager():
    from verl_longrl.rewards.manager import LongRLRewardManager

    manager = LongRLRewardManager(config(), Tokenizer())
    yield manager
    manager.isolation.close()


def rollout(response, data_source="longrlvr", ground_truth="Paris", **extra_info):
    import torch

    from verl import DataProto

    ids = torch.tensor([[*map(ord, response), 0, 0]])
    mask = torch.cat([torch.ones(1, 4 + len(response)), torch.zeros(1, 2)], dim=1)  # four tokens of prompt
    fields = {
        "data_source": data_source,
        "reward_model": {"style": "rule", "ground_truth": ground_truth},
        "extra_info": extra_info,
    }
    return DataProto.from_dict(
        {"responses": ids, "attention_mask": mask}, {k: np.array([v], dtype=object) for k, v in fields.items()}
    )


ROLLOUTS = {
    "right": rollout(RIGHT, ref_chunks=[1], task="qa"),
    "malformed": rollout("Paris", ref_chunks=[1]),
    "own parts": rollout("own parts", "probe"),
    "raises": rollout("raise", "probe"),
    "cannot be pickled": rollout("fine", "probe", f=lambda: 0),
    "unknown source": rollout("fine", "no_such_task"),
    "no answer to compare": rollout(RIGHT, ground_truth="?!", ref_chunks=[1]),
    "released": rollout("[Answer]\na", "longbench_pro", {"doc_ids": ["a"], "golden_label": ""}, reward_mode="T1.1"),
}


def test_every_sample_has_the_same_keys(manager):
    async def score_all():
        return dict(zip(ROLLOUTS, await asyncio.gather(*map(manager.run_single, ROLLOUTS.values())), strict=True))

    results = asyncio.run(score_all())
    keys = (set(METRIC_KEYS) - {"reward"}) | {"score"} | TEXT
    for result in results.values():
        info = result["reward_extra_info"]
        assert set(info) == keys
        assert result["reward_score"] == info["score"]
        assert {name for name, value in info.items() if isinstance(value, str)} == TEXT
    infos = {name: result["reward_extra_info"] for name, result in results.items()}
    assert (infos["right"]["score"], infos["right"]["task"], infos["malformed"]["task"]) == (2.0, "qa", "longrlvr")
    assert {name: info["status"] for name, info in infos.items()} == {
        "right": "ok",
        "malformed": "format_error",
        "own parts": "ok",
        "raises": "scorer_error",
        "cannot be pickled": "scorer_error",
        "unknown source": "scorer_error",
        "no answer to compare": "scorer_error",
        "released": "ok",
    }
    assert (infos["released"]["score"], infos["released"]["task"]) == (1.0, "golongrl_ranking")
    assert {name: json.loads(info["own_parts"]) for name, info in infos.items() if info["own_parts"] != "{}"} == {
        "own parts": {"depth": 0.5, "hops": 2.0}
    }
    assert not set(PART_KEYS) & {"depth", "hops"}
    assert {name: info["cited_ids"] for name, info in infos.items() if info["cited_ids"] != "[]"} == {"right": "[1]"}
    assert {info["judge"] for info in infos.values()} == {"null"}


def test_verls_validation_skips_columns_of_text(manager):
    """verl averages columns. It must skip our columns of text and keep the numbers."""
    from verl.trainer.ppo.metric_utils import process_validation_metrics

    infos = [asyncio.run(manager.run_single(ROLLOUTS[name]))["reward_extra_info"] for name in ("right", "own parts")]
    columns = {name: [info[name] for info in infos] for name in infos[0]}
    metrics = process_validation_metrics(["a", "b"], ["0", "1"], columns)
    assert metrics["a"]["score"]["mean@1"] == 2.0
    assert not TEXT & (set(metrics["a"]) | set(metrics["b"]))


@pytest.mark.parametrize(("workers", "share"), [(1, 64), (8, 8), (7, 10), (100, 1)])
def test_reward_workers_share_the_judges_limit(monkeypatch, workers, share):
    from verl_longrl.rewards import manager as module

    monkeypatch.setattr(module, "IsolatedScorer", lambda options: None)
    judged = config(workers, {"endpoints": ["http://127.0.0.1:9/v1"], "concurrency": 64}, answer={"by": "judge"})
    judge = module.LongRLRewardManager(judged, Tokenizer()).judge
    assert judge is not None
    assert judge.options.concurrency == share
