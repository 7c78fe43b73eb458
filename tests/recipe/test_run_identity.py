"""A folder continues only with a configuration that trains the same."""

import os
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from verl_longrl.config import LongRLConfig
from verl_longrl.rewards.options import JudgeOptions, RewardOptions
from verl_longrl.trainer.checkpoints import seal_checkpoint

from recipe.longrl import content_digest, run_identity, settings

pytestmark = pytest.mark.engine


@pytest.fixture
def configure(composed, tmp_path: Path):
    """configure(overrides) -> a resolved configuration with real files, its folder tmp_path/run."""
    for split in ("train", "val"):
        (tmp_path / f"{split}.parquet").write_bytes(b"rows")

    def make(*overrides: str):
        files = [f"data.{split}_files=[{tmp_path / f'{split}.parquet'}]" for split in ("train", "val")]
        config = composed(*files, f"longrl.output_dir={tmp_path / 'run'}", *overrides)
        settings.resolve(config)
        return config

    return make


@pytest.fixture
def started(configure, tmp_path: Path):
    """started(overrides): that configuration was started and has one whole checkpoint."""

    def start(*overrides: str) -> None:
        config = configure(*overrides)
        run_identity.store_config(config)
        step = Path(config.trainer.default_local_dir) / "global_step_10"
        step.mkdir(parents=True)
        seal_checkpoint(step, world_size=8)

    return start


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("longrl.reward.eta=0.2", "longrl.reward.eta: 0.1 -> 0.2"),
        ("longrl.mix.balanced=true", "longrl.mix.balanced: False -> True"),
        ("longrl.advantage.estimator=tmn", "longrl.advantage.estimator: upstream -> tmn"),
        ("method=outcome_only", "longrl.reward.method: longrlvr -> outcome_only"),
        ("longrl.reward.answer.mode=f1", "longrl.reward.answer.mode: auto -> f1"),
        ("actor_rollout_ref.model.path=another/model", "actor_rollout_ref.model.path: some/model -> another/model"),
        ("actor_rollout_ref.actor.optim.lr=1e-5", "actor_rollout_ref.actor.optim.lr: 1e-06 -> 1e-05"),
        ("actor_rollout_ref.rollout.n=16", "actor_rollout_ref.rollout.n: 8 -> 16"),
        ("actor_rollout_ref.rollout.temperature=0.7", "actor_rollout_ref.rollout.temperature: 1.0 -> 0.7"),
        ("algorithm.norm_adv_by_std_in_grpo=false", "algorithm.norm_adv_by_std_in_grpo: True -> False"),
        ("data.train_batch_size=64", "data.train_batch_size: 32 -> 64"),
        ("data.max_prompt_length=4096", "data.max_prompt_length: 65536 -> 4096"),
        ("data.seed=2", "data.seed: 1 -> 2"),
        ("+data.apply_chat_template_kwargs.enable_thinking=false", "enable_thinking: absent -> False"),
        ("longrl.rope={rope_type: yarn, factor: 4.0, original_max_position_embeddings: 8}", "longrl.rope"),
    ],
)
def test_another_run_is_refused_with_what_differs(started, configure, tmp_path: Path, monkeypatch, override, line):
    monkeypatch.setattr(settings, "prepare_model", lambda model, *_, **__: model)
    started()
    with pytest.raises(run_identity.RunMismatch) as refused:
        run_identity.check_folder(configure(override))
    message = str(refused.value)
    assert line in message
    assert f"{tmp_path / 'run' / 'checkpoints'} has checkpoints up to global_step_10" in message
    assert "trainer.experiment_name=NAME" in message
    assert f"or delete {tmp_path / 'run'}" in message
    assert len(message.splitlines()) <= 6, message  # nothing else is said to differ


def test_what_may_change_freely(started, configure):
    changed = (
        "trainer.total_training_steps=500",
        "trainer.total_epochs=9",
        "trainer.save_freq=1",
        "trainer.test_freq=1",
        "trainer.logger=[console]",
        "trainer.experiment_name=renamed",
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=30000",
        "actor_rollout_ref.actor.ulysses_sequence_parallel_size=8",
        "actor_rollout_ref.actor.fsdp_config.param_offload=true",
        "actor_rollout_ref.actor.fsdp_config.offload_policy=true",
        "actor_rollout_ref.actor.entropy_from_logits_with_chunking=true",
        "actor_rollout_ref.rollout.gpu_memory_utilization=0.4",
        "actor_rollout_ref.rollout.tensor_model_parallel_size=2",
        "actor_rollout_ref.model.enable_gradient_checkpointing=false",
        "longrl.checkpoints_to_keep=3",
        "longrl.log_rollouts=false",
        "longrl.export=false",
        "longrl.reward.max_failure_share=0.5",
        "longrl.reward.timeout_s=9",
        "longrl.judge.timeout_s=9",
        "longrl.judge.endpoints=[http://other/v1]",
        "longrl.judge.patience_minutes=5",
        "actor_rollout_ref.actor.freeze_vision_tower=true",
        "actor_rollout_ref.actor.fsdp_config.full_determinism=true",
        "trainer.v1.sampler.max_off_policy_threshold=4",
        "ray_kwargs.ray_init.num_cpus=64",
        "hardware=16gpu",
    )
    started()
    assert run_identity.check_folder(configure(*changed)).startswith("continues: ")


CANNOT_CHANGE_WHAT_IS_TRAINED = {
    "longrl.reward": {"timeout_s", "workers", "worker_memory_gib", "scorer_network", "max_failure_share", "verdict"},
    "longrl.judge": {
        *("endpoints", "api_key_env", "concurrency", "timeout_s", "attempts", "backoff_s", "max_backoff_s"),
        *("cooldown_s", "cache_size", "patience_minutes"),
    },
    "longrl": {
        *("output_dir", "engine", "prompt_affinity", "max_filtered_batches", "checkpoints_to_keep", "log_rollouts"),
        *("watchdog_minutes", "watch", "export", "trust_folder", "gpu_memory_gib", "evaluate", "samples_per_step"),
    },
}


@pytest.mark.parametrize(
    ("section", "options"),
    [("longrl", LongRLConfig), ("longrl.reward", RewardOptions), ("longrl.judge", JudgeOptions)],
)
def test_a_new_option_of_ours_is_on_one_of_the_two_lists(section: str, options: type):
    names = {field.name for field in fields(options)} - CANNOT_CHANGE_WHAT_IS_TRAINED[section]
    compared = {
        key.removeprefix(f"{section}.").split(".")[0] for key in run_identity.MUST_MATCH if key.startswith(section)
    }
    assert names == compared


def test_verl_has_every_key_that_must_match(composed):
    keys = {key for key in run_identity.MUST_MATCH if not key.startswith("longrl.")}
    for hardware in ("8gpu", "128gpu-megatron"):
        config = composed(f"hardware={hardware}")
        keys -= {key for key in keys if OmegaConf.select(config, key, default="absent") != "absent"}
    assert keys == set()


def test_other_versions_may_have_other_keys(started, configure, tmp_path: Path):
    started()
    file = tmp_path / "run" / "config.yaml"
    stored = yaml.safe_load(file.read_text())
    stored["algorithm"]["gone"] = True  # verl had it
    # verl and LongRL did not have these; what a stored configuration lacks had its default
    del stored["algorithm"]["pf_ppo"], stored["longrl"]["reward"]["retrieval"], stored["longrl"]["judge"]
    file.write_text(yaml.safe_dump(stored))
    assert run_identity.check_folder(configure()).startswith("continues: ")
    with pytest.raises(run_identity.RunMismatch, match=r"longrl\.reward\.retrieval: fraction -> all"):
        run_identity.check_folder(configure("longrl.reward.retrieval=all"))


def test_the_same_path_with_other_data_is_other_data(started, configure, tmp_path: Path):
    started()
    (tmp_path / "train.parquet").write_bytes(b"more rows")
    with pytest.raises(run_identity.RunMismatch, match=r"train.parquet \(4 bytes\).*train.parquet \(9 bytes\)"):
        run_identity.check_folder(configure())


def test_the_model_behind_a_scaled_folder(started, configure, tmp_path: Path, monkeypatch):
    """With longrl.rope both runs name <output_dir>/model; what it was made of is compared."""
    monkeypatch.setattr(run_identity.model_folder, "original_model", lambda path: "/models/a")
    started()
    monkeypatch.setattr(run_identity.model_folder, "original_model", lambda path: "/models/b")
    with pytest.raises(run_identity.RunMismatch, match=r"model\.path: /models/a -> /models/b"):
        run_identity.check_folder(configure())


def test_a_model_that_is_prepared_now_and_was_not_before(started, configure, tmp_path: Path, monkeypatch):
    """A run continues when its model's name gives way to the folder prepared from it, judge's included."""
    judge = ["longrl.reward.answer.by=reward_model", "reward.reward_model.model_path=some/judge"]
    started(*judge)
    monkeypatch.setattr(settings, "prepare_model", lambda model, target, **_: str(target))
    for name, model in (("model", "some/model"), ("judge_model", "some/judge")):
        (tmp_path / "run" / name).mkdir()
        (tmp_path / "run" / name / "longrl_origin.json").write_text(f'{{"model": "{model}"}}')
    config = configure(*judge)
    assert config.actor_rollout_ref.model.path == str(tmp_path / "run" / "model")
    assert config.reward.reward_model.model_path == str(tmp_path / "run" / "judge_model")
    assert run_identity.check_folder(config).startswith("continues: ")


def test_a_folder_without_results_may_start_anew(configure, tmp_path: Path):
    run_identity.store_config(configure())
    another = configure("longrl.reward.eta=0.2")
    assert run_identity.check_folder(another) == f"{tmp_path / 'run'} is new"
    run_identity.store_config(another)
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["longrl"]["reward"]["eta"] == 0.2


def test_what_no_run_wrote_is_not_replaced_and_an_empty_folder_is_nothing(configure, tmp_path: Path):
    """A disk for the rollouts, say."""
    rollouts = tmp_path / "run" / "rollouts"
    rollouts.mkdir(parents=True)
    assert run_identity.check_folder(configure()) == f"{tmp_path / 'run'} is new"
    (rollouts / "mine.txt").write_text("x")
    with pytest.raises(
        run_identity.RunMismatch, match=r"contains rollouts, which no run wrote and this run would replace"
    ):
        run_identity.check_folder(configure())


def test_metrics_alone_are_results(configure, tmp_path: Path):
    run_identity.store_config(configure())
    (tmp_path / "run" / "metrics.jsonl").write_text('{"split": "val", "step": 0}\n')
    assert run_identity.check_folder(configure()).startswith("continues: ")
    with pytest.raises(run_identity.RunMismatch, match="has metrics of a run without checkpoints"):
        run_identity.check_folder(configure("longrl.reward.eta=0.2"))


def test_the_first_configuration_stays(started, configure, tmp_path: Path):
    started()
    before = (tmp_path / "run" / "config.yaml").read_text()
    run_identity.store_config(configure("trainer.save_freq=1"))
    assert (tmp_path / "run" / "config.yaml").read_text() == before


def test_resume_mode_disable_needs_a_new_folder(started, configure):
    started()
    with pytest.raises(
        run_identity.RunMismatch, match=r"resume_mode = disable: .*\n.*resume with trainer\.resume_mode=auto"
    ):
        run_identity.check_folder(configure("trainer.resume_mode=disable"))


def test_checkpoints_elsewhere_are_compared_too(started, configure, tmp_path: Path):
    """CKPT_SAVE_PATH of two differently named runs."""
    elsewhere = f"trainer.default_local_dir={tmp_path / 'ckpt'}"
    started(elsewhere)
    with pytest.raises(run_identity.RunMismatch, match=r"eta: 0\.1 -> 0\.2") as refused:
        run_identity.check_folder(
            configure(elsewhere, f"longrl.output_dir={tmp_path / 'second'}", "longrl.reward.eta=0.2")
        )
    assert "another trainer.default_local_dir (CKPT_SAVE_PATH)" in str(refused.value)


def test_runs_from_before_go_on(started, configure, tmp_path: Path):
    started()
    (tmp_path / "run" / "config.yaml").unlink()
    assert "nothing is compared" in run_identity.check_folder(configure("longrl.reward.eta=0.2"))
    run_identity.store_config(configure("longrl.reward.eta=0.2"))
    assert "nothing is compared" not in run_identity.check_folder(configure("longrl.reward.eta=0.2"))


MODEL = {
    "config.json": b'{"layers": 1}',
    "tokenizer.json": b'{"model": 1}',
    "chat_template.jinja": b"{{ messages }}",
    "model.safetensors": bytes(3 * 2**20),
    "README.md": b"",
}


@pytest.fixture
def own(tmp_path: Path) -> tuple[str, ...]:
    """Overrides with a model folder, a scorer in a file and one in a package, all of them real."""
    (tmp_path / "model").mkdir()
    for name, holds in MODEL.items():
        (tmp_path / "model" / name).write_bytes(holds)
    (tmp_path / "mine.py").write_text("x = 1\n")
    package = tmp_path / "their_scorers"
    package.mkdir()
    for name in ("__init__.py", "parts.py"):
        (package / name).write_text("y = 1\n")
    return (
        f"actor_rollout_ref.model.path={tmp_path / 'model'}",
        f"longrl.reward.scorers=[{tmp_path / 'mine.py'},their_scorers]",
    )


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("val.parquet", r"data\.val_files\[0\]: .*val\.parquet \(4 bytes\) -> .* \(4 bytes\), with different content"),
        ("model/config.json", r"model\.path: .*, with different content: config\.json"),
        ("model/tokenizer.json", r"model\.path: .*, with different content: tokenizer\.json"),
        ("model/chat_template.jinja", r"model\.path: .*, with different content: chat_template\.jinja"),
        ("model/model.safetensors", r"model\.path: .*, with different content: model\.safetensors"),
        ("model/vocab.json", r"model\.path: .*, with different content: vocab\.json"),
        ("mine.py", r"longrl\.reward\.scorers\[0\]: .*mine\.py -> .*mine\.py, with different content"),
        ("their_scorers/parts.py", r"longrl\.reward\.scorers\[1\]: .*, with different content: parts\.py"),
    ],
)
def test_other_content_at_the_same_path(started, configure, own, tmp_path: Path, monkeypatch, file: str, line: str):
    """Of the same size, and with its times put back."""
    monkeypatch.syspath_prepend(tmp_path)
    started(*own)
    assert run_identity.check_folder(configure(*own)).startswith("continues: ")
    path = tmp_path / file
    before = path.read_bytes() if path.exists() else b"{}"
    stat = os.stat(path if path.exists() else tmp_path)
    path.write_bytes(before.replace(b"1", b"2") if b"1" in before else b"#" + before[1:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(run_identity.RunMismatch, match=line) as refused:
        run_identity.check_folder(configure(*own))
    assert len(str(refused.value).splitlines()) == 3, f"something else is said to differ: {refused.value}"


def test_what_decides_nothing_may_change(started, configure, own, tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    started(*own)
    (tmp_path / "model" / "README.md").write_text("about")
    assert run_identity.check_folder(
        configure(*own)
    ) == f"continues: {tmp_path / 'run' / 'checkpoints'} has checkpoints up to " + ("global_step_10")


def test_moved_files_are_the_same(started, configure, own, tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    started(*own)
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("train.parquet", "val.parquet", "model", "mine.py"):
        (tmp_path / name).rename(moved / name)
    overrides = [override.replace(f"{tmp_path}/", f"{moved}/") for override in own]
    files = [f"data.{split}_files=[{moved / f'{split}.parquet'}]" for split in ("train", "val")]
    assert run_identity.check_folder(configure(*overrides, *files)).endswith("has checkpoints up to global_step_10")
    (moved / "train.parquet").write_bytes(b"ROWS")
    with pytest.raises(run_identity.RunMismatch, match=r"data\.train_files\[0\]: .*, with different content"):
        run_identity.check_folder(configure(*overrides, *files))


def test_more_files_and_another_order_are_other_data(started, configure, tmp_path: Path):
    (tmp_path / "train.parquet").write_bytes(b"ROWS")
    both = [tmp_path / "train.parquet", tmp_path / "val.parquet"]
    started(f"data.train_files=[{both[0]},{both[1]}]")
    for files in (f"{both[1]},{both[0]}", f"{both[0]}"):
        with pytest.raises(run_identity.RunMismatch, match=r"data\.train_files"):
            run_identity.check_folder(configure(f"data.train_files=[{files}]"))


def test_a_model_of_the_hub_is_its_commit(started, configure, tmp_path: Path, monkeypatch):
    def cached(commit: str) -> None:
        snapshot = tmp_path / "models--some--model" / "snapshots" / commit
        snapshot.mkdir(parents=True, exist_ok=True)
        (snapshot / "config.json").write_text("{}")
        monkeypatch.setattr(content_digest, "try_to_load_from_cache", lambda *_: str(snapshot / "config.json"))

    cached("abc1")
    started()
    assert run_identity.check_folder(configure()).startswith("continues: ")
    cached("def2")
    with pytest.raises(
        run_identity.RunMismatch, match=r"model\.path: some/model -> some/model, .*: commit abc1 -> commit def2"
    ):
        run_identity.check_folder(configure())
    snapshot = tmp_path / "models--some--model" / "snapshots" / "abc1"
    assert run_identity.check_folder(configure(f"actor_rollout_ref.model.path={snapshot}")).startswith("continues: ")


def test_a_run_from_before_contents_were_stored(started, configure, own, tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    started(*own)
    file = tmp_path / "run" / "config.yaml"
    stored = yaml.safe_load(file.read_text())
    del stored[run_identity.CONTENT]
    file.write_text(yaml.safe_dump(stored))
    (tmp_path / "mine.py").write_text("z = 1\n")
    assert "stored no digests" in run_identity.check_folder(configure(*own))
    with pytest.raises(run_identity.RunMismatch, match=r"model\.path: .* -> another/model"):
        run_identity.check_folder(configure(own[1], "actor_rollout_ref.model.path=another/model"))


def test_a_large_file_is_read_once(configure, started, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(content_digest, "CACHED_BYTES", 3)
    for split in ("train", "val"):
        os.utime(tmp_path / f"{split}.parquet", (1, 1))
    started()
    content_digest._cache.clear()  # as another process
    monkeypatch.setattr(content_digest, "_digest", lambda *_: pytest.fail("read again"))
    assert run_identity.check_folder(configure()).startswith("continues: ")
    (tmp_path / "run" / "content.json").write_text("{")
    monkeypatch.undo()
    content_digest._cache.clear()
    assert run_identity.check_folder(configure()).startswith("continues: ")


@pytest.mark.parametrize(
    ("name", "text"),
    [("config.yaml", "mine: 1\n"), ("config.yaml", "\0\0"), ("summary.json", "{}"), ("plots/p.png", "")],
)
def test_a_folder_with_files_of_somebody_else_is_refused(configure, tmp_path: Path, name: str, text: str):
    file = tmp_path / "run" / name
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(run_identity.RunMismatch, match=name.partition("/")[0]):
        run_identity.check_folder(configure())


def test_a_resume_writes_nothing(started, configure, monkeypatch):
    started()
    monkeypatch.setattr(run_identity, "write_atomic", lambda *_: pytest.fail("written"))
    run_identity.store_config(configure())
