"""Each thing that can be wrong before a start is found, with its value and its fix."""

import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from verl_longrl.data.schema import write_samples

from recipe.longrl import preflight, settings
from recipe.longrl.demo import build, dataset, model, tokenizer, world

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's data and an untrained model."""
    folder = tmp_path_factory.mktemp("assets")
    words = tokenizer.build([dataset.frame()])
    for split in ("train", "val"):
        drawn = world.documents(build.BuildConfig().world, 8, split)
        write_samples(folder / f"{split}.parquet", dataset.samples(words, drawn, split))
    model.save(model.build(words, 0), words, folder / "model")
    return folder


@pytest.fixture
def check(assets: Path, composed, tmp_path: Path):
    """check(overrides) -> name -> (status, detail) of the whole preflight of a CPU run."""

    def run(*overrides: str) -> dict[str, tuple[str, str]]:
        needed = [f"data.{split}_files=[{assets / f'{split}.parquet'}]" for split in ("train", "val")]
        needed += [f"actor_rollout_ref.model.path={assets / 'model'}", f"longrl.output_dir={tmp_path / 'run'}"]
        config = composed("model=demo", "hardware=cpu", *needed, *overrides)
        settings.resolve(config)
        return {c.name: (c.status, c.detail) for c in preflight.run(config)}

    return run


def test_a_good_configuration_passes(check):
    found = check()
    assert {status for status, _ in found.values()} == {"ok"}, found
    assert "8 rows" in found["data.train_files"][1]
    assert not preflight.failed([preflight.Check("x", "warn", "y")])


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("batch", "actor_rollout_ref.actor.ppo_mini_batch_size=3", "8 is no multiple of .*ppo_mini_batch_size = 3"),
        ("batch", "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=100", "less than one sequence of 1088"),
        ("parallelism", "actor_rollout_ref.rollout.tensor_model_parallel_size=3", "3 does not divide 2 GPUs"),
        ("cluster", "ray_kwargs.ray_init.num_cpus=4", "4 Ray CPUs, 9 needed; raise"),
        ("context", "data.max_response_length=4096", r"= 5120 exceeds the 2048 positions.*rope.*F >= 2.50"),
        ("model", "actor_rollout_ref.model.path=/no/such/model", "cannot read the model config of '/no/such/model'"),
        ("data.train_files", "data.train_files=[/no/such.parquet]", "/no/such.parquet: no such file"),
        ("data.train_files", "data.max_prompt_length=16", "more than max_prompt_length 16"),
        (
            "memory",
            "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=50000000",
            "lower actor.ppo_max_token_len_per_gpu",
        ),
    ],
)
def test_what_is_wrong_is_named(check, name: str, override: str, message: str):
    import re

    status, detail = check(override)[name]
    assert status == "FAIL"
    assert re.search(message, detail), detail


def test_rows_must_divide_over_the_ranks(check):
    status, detail = check("actor_rollout_ref.actor.ppo_mini_batch_size=1", "actor_rollout_ref.rollout.n=1")["batch"]
    assert status == "FAIL"
    assert "does not divide over 2 data-parallel ranks" in detail


def test_over_long_prompts_may_be_dropped_on_demand(check):
    assert check("data.max_prompt_length=120", "data.filter_overlong_prompts=true")["data.train_files"][0] == "ok"


def test_version_mismatch_names_both_versions(check, monkeypatch):
    monkeypatch.setattr(preflight, "locked_versions", lambda lock: {"ray": "1.0.0", "no-such-thing": "2"})
    status, detail = check()["versions"]
    assert status == "FAIL"
    assert "expected 1.0.0" in detail
    assert "bash scripts/setup.sh cpu" in detail


def test_unregistered_plugin_is_found(check, monkeypatch):
    import verl_longrl.plugin

    monkeypatch.setattr(verl_longrl.plugin, "LOADED", False)
    assert check()["plugin"][0] == "FAIL"


def test_full_disk_is_found(check, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: usage._replace(free=10))
    status, detail = check()["disk"]
    assert status == "FAIL"
    assert "needed to keep" in detail


def test_unreachable_judge_is_found_with_its_address(check):
    found = check("longrl.reward.answer.by=judge", "longrl.judge.endpoints=[http://127.0.0.1:9/v1]")
    assert found["judge"][0] == "FAIL"
    assert "http://127.0.0.1:9/v1" in found["judge"][1]


def test_absent_gpus_stop_a_run_but_not_a_dry_run(composed, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = composed()
    (real,), (dry,) = (list(preflight._cluster(config, dry_run)) for dry_run in (False, True))
    assert (real.status, dry.status) == ("FAIL", "warn")
    assert "needs 8 GPUs" in real.detail
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    (few,) = preflight._cluster(config, False)
    assert few.status == "FAIL"
    assert "too few CPUs, the placement would wait for ever" in few.detail


def test_published_run_is_estimated_without_the_weights(composed, tmp_path: Path):
    """A 7B shape from its config alone: 7.6B parameters, KV cache of 56 KiB a token over 1 GPU in bf16."""
    from transformers import Qwen2Config

    from recipe.longrl import memory

    shape = Qwen2Config(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
    )
    config = composed()
    settings.resolve(config)
    sizes = memory.estimate(config, shape, gpu_gib=80, n_gpus=8)
    assert sizes.parameters == pytest.approx(7.6e9, rel=0.01)
    assert sizes.kv_bytes_per_token == 2 * 28 * 1 * 128 * 2  # tensor parallel 4: one of the four KV heads
    assert sizes.train_state == pytest.approx(7.6e9 * 16 / 8 / 2**30, rel=0.01)
    assert sizes.update_peak < 80
    assert sizes.kv_tokens > 69632
    assert OmegaConf.is_config(config)


def test_rope_lengthens_the_context_of_both_engines(check):
    rope = "longrl.rope={rope_type: yarn, factor: 4.0, original_max_position_embeddings: 2048}"
    status, detail = check("data.max_response_length=4096", rope)["context"]
    assert status == "ok"
    assert "5120 of 8192 positions" in detail
