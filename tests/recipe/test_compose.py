"""Every pair of shipped groups composes into a configuration that verl and LongRL accept."""

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import yaml
from transformers import LlamaConfig
from verl.utils.config import omega_conf_to_dataclass
from verl_longrl.config import LongRLConfig

from recipe.longrl import config as config_package
from recipe.longrl import derived_settings, main, settings
from recipe.longrl.preflight import batch, environment

pytestmark = pytest.mark.engine
ROOT = Path(config_package.__file__).parent
GROUPS = {group: sorted(p.stem for p in (ROOT / group).glob("*.yaml")) for group in ("method", "model", "hardware")}


SMALL = LlamaConfig(
    architectures=["LlamaForCausalLM"],
    **{"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30},
    **{"num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True},
    max_position_embeddings=8192,
)
"""A model that a CPU can train: SmolLM2-135M's shape."""

COMBINATIONS = [
    (GROUPS["method"][(i + j) % len(GROUPS["method"])], model, hardware)
    for i, model in enumerate(GROUPS["model"])
    for j, hardware in enumerate(GROUPS["hardware"])
]
"""Any two groups together, in as few compositions as that takes: the method alternates over models and hardware."""


def test_combinations_have_every_pair_of_groups():
    for first, second in ((0, 1), (0, 2), (1, 2)):
        names = [list(GROUPS.values())[at] for at in (first, second)]
        assert {(combination[first], combination[second]) for combination in COMBINATIONS} == set(product(*names))


@pytest.mark.parametrize(("method", "model", "hardware"), COMBINATIONS)
def test_combination(composed, method: str, model: str, hardware: str):
    overrides = [f"method={method}", f"model={model}", f"hardware={hardware}"]
    if model in ("custom", "demo_keychain"):  # these name no weights of their own
        overrides.append("actor_rollout_ref.model.path=some/model")
    if method == "golongrl" and not hardware.startswith(("128gpu", "cpu")):  # its sequences want more tokens
        overrides.append("actor_rollout_ref.actor.ppo_max_token_len_per_gpu=180224")
    config = composed(*overrides)
    longrl = settings.resolve(config)
    chosen = [
        *derived_settings.derive_lengths(config, SMALL, lambda _: 700),
        *derived_settings.derive_sizes(config, SMALL),
    ]
    assert [check.status for check in chosen] == ["ok"] * len(chosen), chosen
    assert longrl.reward.method == method
    checks = list(batch.check_batch(config))
    assert [check.status for check in checks] == ["ok"], checks
    omega_conf_to_dataclass(config.actor_rollout_ref.actor)  # what verl makes of it: no key is unknown to it
    assert config.trainer.default_local_dir.endswith("checkpoints")


def test_published_hyper_parameters(composed):
    """Section 5 of the released run_longrl.sh, as the defaults of a real run."""
    config = composed()
    settings.resolve(config)
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    assert config.algorithm.adv_estimator == "grpo"
    assert (config.data.train_batch_size, actor.ppo_mini_batch_size, rollout.n) == (32, 8, 8)
    assert (config.data.max_prompt_length, config.data.max_response_length) == (65536, 4096)
    assert (actor.optim.lr, actor.optim.lr_warmup_steps, actor.optim.weight_decay) == (1e-6, 5, 0.1)
    assert (actor.clip_ratio_low, actor.clip_ratio_high, actor.clip_ratio_c) == (0.2, 0.28, 10.0)
    assert (actor.entropy_coeff, actor.loss_agg_mode, actor.use_kl_loss) == (0, "token-mean", False)
    assert (actor.ulysses_sequence_parallel_size, actor.ppo_max_token_len_per_gpu) == (4, 22528)
    assert (rollout.tensor_model_parallel_size, rollout.gpu_memory_utilization) == (4, 0.6)
    assert (rollout.temperature, rollout.top_p, rollout.top_k) == (1.0, 1.0, -1)
    assert (config.trainer.total_epochs, config.trainer.save_freq, config.trainer.test_freq) == (5, 10, 10)
    assert (config.trainer.nnodes, config.trainer.n_gpus_per_node) == (1, 8)
    assert config.algorithm.filter_groups.enable
    assert rollout.max_model_len == 65536 + 4096
    assert (config.longrl.reward.eta, config.longrl.reward.beta) == (0.1, 2.0)


def test_published_hyper_parameters_of_loongrl(composed):
    config = composed("method=loongrl")
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    assert (config.data.train_batch_size, config.data.max_prompt_length, config.data.max_response_length) == (
        512,
        16384,
        4096,
    )
    assert (rollout.n, rollout.temperature, rollout.top_p) == (8, 0.6, 0.95)
    assert (actor.optim.lr, actor.optim.lr_scheduler_type, actor.grad_clip) == (1e-6, "cosine", 1.0)
    assert (actor.use_kl_loss, actor.kl_loss_coef, actor.entropy_coeff) == (True, 0.001, 0)
    assert actor.loss_agg_mode == "seq-mean-token-mean"


def test_published_hyper_parameters_of_golongrl(composed):
    config = composed("method=golongrl", "hardware=128gpu")
    longrl = settings.resolve(config)
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    assert (config.data.max_prompt_length, config.data.max_response_length) == (163840, 16384)
    assert (config.data.train_batch_size, actor.ppo_mini_batch_size, rollout.n) == (128, 128, 16)
    assert (actor.optim.lr, actor.optim.lr_warmup_steps, actor.optim.weight_decay) == (2e-6, 5, 0.1)
    assert (actor.clip_ratio_low, actor.clip_ratio_high, actor.clip_ratio_c) == (0.2, 0.28, 3.0)
    assert (rollout.temperature, rollout.val_kwargs.temperature, rollout.val_kwargs.top_p) == (1.0, 0.6, 0.95)
    assert (config.trainer.nnodes, config.trainer.n_gpus_per_node) == (16, 8)
    found = longrl.advantage
    assert (found.estimator, found.difficulty_reweight, found.alpha, found.gamma) == ("tmn", True, 0.8, 1.0)
    plain = composed("method=golongrl", "hardware=128gpu", "longrl.advantage.estimator=upstream")
    assert settings.resolve(plain).advantage.estimator == "upstream"


@pytest.mark.parametrize(
    ("model", "hardware", "tensor", "expert", "data_parallel"),
    [("qwen3-4b", "128gpu-megatron", 8, 1, 2), ("qwen3-30b-a3b", "128gpu-megatron-moe", 4, 4, 4)],
)
def test_golongrl_with_megatron_as_published(composed, model, hardware, tensor, expert, data_parallel):
    config = composed(
        "method=golongrl", f"model={model}", f"hardware={hardware}", "longrl.advantage.estimator=upstream"
    )
    assert settings.resolve(config).advantage.estimator == "upstream"
    (check,) = batch.check_batch(config)
    assert (
        f"128 devices = data parallel {data_parallel} x sequence parallel 8 x model parallel {tensor}" in check.detail
    )
    assert config.actor_rollout_ref.rollout.tensor_model_parallel_size == 8
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    assert (actor.strategy, actor.megatron.expert_model_parallel_size) == ("megatron", expert)
    assert (actor.megatron.param_offload, actor.megatron.optimizer_offload) == (True, True)
    assert actor.megatron.override_transformer_config["recompute_granularity"] == "full"
    assert (actor.optim.lr, actor.optim.clip_grad, actor.optim.lr_decay_style) == (2e-6, 1.0, "constant")
    found = {check.name: check for check in environment.check_environment(config, dry_run=False)}["megatron"]
    assert (found.status, "Megatron-Core" in found.detail) == ("FAIL", True)


def test_methods_keep_their_optimizer_with_megatron(composed):
    config = composed("method=loongrl", "hardware=128gpu-megatron")
    settings.resolve(config)
    optim = omega_conf_to_dataclass(config.actor_rollout_ref.actor).optim
    assert (optim.lr_decay_style, optim.clip_grad) == ("cosine", 1.0)


def test_the_former_name_of_plain_grpo(composed, capsys):
    assert composed("method=golongrl", "tmn=false").longrl.advantage.estimator == "upstream"
    assert "tmn=false is deprecated: use longrl.advantage.estimator=upstream\n" in capsys.readouterr().err
    assert composed("method=golongrl", "tmn=true").longrl.advantage.estimator == "tmn"
    with pytest.raises(settings.SettingsError, match=r"tmn = maybe: expected true or false\. Fix: "):
        composed("tmn=maybe")


def test_our_block_comes_from_its_classes(composed):
    """Every key can be set without +, and a composed block has all of them."""
    config = composed("hardware=8gpu")
    assert settings.plain(config.longrl) == {"output_dir": "outputs/longrl", **LongRLConfig.defaults()}
    assert composed("longrl.judge.concurrency=2").longrl.judge.concurrency == 2


def test_methods_differ_in_the_reward_alone(composed):
    ours, plain = composed("method=longrlvr"), composed("method=outcome_only")
    assert plain.longrl.reward.method == "outcome_only"
    plain.longrl.reward.method = "longrlvr"
    assert ours == plain


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("longrl.reward.bta=1", "longrl.reward.bta = 1: unknown key. Fix: .*nearest is longrl.reward.beta"),
        ("longrl.exprt=true", "longrl.exprt = true: unknown key. Fix: .*nearest is longrl.export"),
        ("longrl.reward.eta=2", "^longrl.reward.eta = 2: expected a number of at least 0 and at most 1. Fix: "),
        ("longrl.reward.answer.by=judge", "longrl.reward.answer.by = .judge.: .* Fix: set longrl.judge.endpoints="),
        ("longrl.reward.answer.by=reward_model", "reward.reward_model.model_path="),
        ("longrl.checkpoints_to_keep=0", "checkpoints_to_keep = 0: expected a whole number of at least 1, or null"),
        (
            "longrl.rope={rope_type: yarn}",
            "longrl.rope = .*: factor, original_max_position_embeddings missing. Fix: write",
        ),
        ("longrl.rope={rope_type: yarn, factor: 0.5, original_max_position_embeddings: 1}", "rope.factor = 0.5"),
        ("trainer.max_actor_ckpt_to_keep=1", "use longrl.checkpoints_to_keep"),
        ("trainer.resume_mode=latest", "resume_mode = latest: expected one of auto, disable, resume_path"),
        ("trainer.resume_mode=resume_path", "needs the checkpoint. Fix: trainer.resume_from_path="),
        ("actor_rollout_ref.actor.checkpoint.async_save=true", "checkpoint.async_save = true: not supported"),
        ("trainer.resume_from_path=global_step_2", "resume_mode = auto ignores it"),
        ("trainer.v1.trainer_mode=colocate_async", "trainer_mode = colocate_async: LongRL's trainer is synchronous"),
        ("trainer.v1.trainer_mode=nonsense", "set trainer.v1.trainer_mode=sync"),
        ("trainer.total_epochs=0", "total_epochs = 0: expected a whole number of at least 1"),
        ("trainer.total_training_steps=0", "total_training_steps = 0: expected a whole number of at least 1, or null"),
        ("trainer.total_training_steps=None", "total_training_steps = None: expected .* or null"),
        ("trainer.save_freq=often", "save_freq = often: expected a whole number of steps, or -1 for never"),
        ("trainer.test_freq=null", "test_freq = None: expected a whole number of steps"),
        ("data.train_batch_size=0", "data.train_batch_size = 0: expected a whole number of at least 1"),
        ("actor_rollout_ref.rollout.n=1.5", "rollout.n = 1.5: expected a whole number"),
    ],
)
def test_bad_settings_are_named(composed, override: str, message: str):
    with pytest.raises(settings.SettingsError, match=message):
        settings.resolve(composed(override))


def test_missing_files_are_asked_for(composed):
    with pytest.raises(settings.SettingsError, match=r"data.train_files, data.val_files must be given.*TRAIN_FILES"):
        settings.resolve(composed("actor_rollout_ref.model.path=x", given=False))


def test_outputs_and_data_are_absolute(composed, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = composed("longrl.output_dir=here")
    settings.resolve(config)
    assert config.longrl.output_dir == str(tmp_path / "here")
    assert config.trainer.default_local_dir == str(tmp_path / "here" / "checkpoints")
    assert list(config.data.train_files) == [str(tmp_path / "train.parquet")]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.totl_epochs=3", "unknown key trainer.totl_epochs; nearest valid ones: trainer.total_epochs"),
        ("hardware=9gpu", r"hardware=9gpu is unknown; the nearest is hardware=8gpu \(known: 128gpu, .*cpu\)$"),
        ("method=longrl", "method=longrl is unknown; the nearest is method=loongrl"),
        ("model=qwen2.5-8b", "nearest is model=qwen2.5-7b .*; for any other model: model=custom actor_rollout_ref"),
        ("model=Qwen/Qwen3-4B", "nearest is model=qwen3-4b"),
        ("data.train_files", "train_files"),
    ],
)
def test_unknown_keys_name_the_nearest(composed, override: str, message: str):
    with pytest.raises(settings.SettingsError, match=message):
        composed(override)


def test_only_what_is_meant_for_users_is_offered(composed):
    with pytest.raises(settings.SettingsError) as error:
        composed("model=nothing")
    assert "demo" not in str(error.value)
    assert "hf_model" not in str(error.value)
    assert "search path" not in str(error.value)


def test_the_quick_composition_of_these_tests_is_the_real_one(composed):
    overrides = ["method=loongrl", "longrl.reward.eta=0.3", "data.train_files=[a.parquet]", "+data.kind=new"]
    overrides += ["data.val_files=[b.parquet]", "actor_rollout_ref.model.path=some/model", "~trainer.test_freq"]
    assert composed(*overrides) == settings.compose(overrides)


def test_composing_imports_neither_torch_nor_verl():
    """Which is what makes a mistyped override known within a second or two."""
    code = (
        "import sys; from recipe.longrl import settings\n"
        "config = settings.compose([]); assert config.actor_rollout_ref.rollout.name == 'vllm'\n"
        "print(sorted({'torch', 'verl', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n", done.stderr


def test_one_scorer_need_not_be_a_list(composed, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = composed("longrl.reward.scorers=mine.py")
    assert settings.resolve(config).reward.scorers == (str(tmp_path / "mine.py"),)
    assert list(config.data.scorers) == [str(tmp_path / "mine.py")]  # what the data set reads


def test_a_configuration_is_shown_without_data_or_model(capsys):
    main.main(["--config", "longrl.reward.eta=0.3"])
    shown = yaml.safe_load(capsys.readouterr().out)
    assert next(iter(shown)) == "longrl"
    assert shown["longrl"]["reward"]["eta"] == 0.3
    assert shown["data"]["train_files"] is None


def test_what_was_changed_is_shown_alone(capsys):
    main.main(["--config=changed", "longrl.reward.eta=0.3", "trainer.save_freq=5"])
    assert yaml.safe_load(capsys.readouterr().out) == {"longrl": {"reward": {"eta": 0.3}}, "trainer": {"save_freq": 5}}
    main.main(["--config=changed"])
    assert capsys.readouterr().out == "\n"


def test_paths_are_made_absolute_and_urls_left_alone(composed, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words").mkdir()
    config = composed(
        "data.train_files=['hdfs://data/a.parquet','s3://data/b.parquet',c.parquet]",
        "actor_rollout_ref.model.path='hdfs://models/m'",
        "actor_rollout_ref.model.tokenizer_path=words",
        "longrl.reward.scorers=[mine/scorers.py,my.module]",
    )
    longrl = settings.resolve(config)
    assert list(config.data.train_files) == [
        "hdfs://data/a.parquet",
        "s3://data/b.parquet",
        str(tmp_path / "c.parquet"),
    ]
    assert config.actor_rollout_ref.model.path == "hdfs://models/m"
    assert config.actor_rollout_ref.model.tokenizer_path == str(tmp_path / "words")
    assert longrl.reward.scorers == (str(tmp_path / "mine" / "scorers.py"), "my.module")


def test_the_checkpoint_to_resume_from_becomes_absolute(composed, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # ranks and task runner work in folders of their own
    config = composed("trainer.resume_mode=resume_path", "trainer.resume_from_path=old/global_step_20/")
    settings.resolve(config)
    assert config.trainer.resume_from_path == str(tmp_path / "old" / "global_step_20")
    with pytest.raises(settings.SettingsError, match=r"resume_from_path = hdfs://ckpt/global_step_2 must be a folder"):
        settings.resolve(
            composed("trainer.resume_mode=resume_path", "trainer.resume_from_path='hdfs://ckpt/global_step_2'")
        )


def test_a_run_writes_into_a_folder(composed):
    with pytest.raises(settings.SettingsError, match=r"trainer\.default_local_dir = hdfs://ckpt must be a folder"):
        settings.resolve(composed("trainer.default_local_dir='hdfs://ckpt'"))


def test_a_value_that_hydra_reads_otherwise_is_told_how_to_quote(composed):
    with pytest.raises(settings.SettingsError, match="Fix: quote a value with any of"):
        composed("actor_rollout_ref.model.path=/ckpt/step=100/hf")


def test_a_dry_run_fetches_no_weights(composed, tmp_path: Path, monkeypatch):
    asked = []
    monkeypatch.setattr(settings, "prepare_model", lambda model, *_, weights, **__: asked.append(weights) or model)
    for dry_run in (False, True):
        config = composed("longrl.rope={rope_type: yarn, factor: 4.0, original_max_position_embeddings: 32768}")
        settings.resolve(config, dry_run=dry_run)
    assert asked == [True, False]


def test_rope_problems_are_settings_problems(composed, tmp_path: Path):
    rope = "longrl.rope={rope_type: yarn, factor: 4.0, original_max_position_embeddings: 32768}"
    with pytest.raises(settings.SettingsError, match=r"has no config\.json"):
        settings.resolve(
            composed(rope, f"actor_rollout_ref.model.path={tmp_path}", f"longrl.output_dir={tmp_path}/out")
        )


@pytest.mark.parametrize(
    "name",
    ["", " ", ".", "..", ".hidden", "../../../etc", "/etc", "a/b", "a\\b", "a\nb", "a\x00b", " a", "a ", "x" * 300],
)
def test_the_name_of_a_run_is_that_of_one_folder(composed, name: str):
    config = composed()
    config.trainer.experiment_name = name
    with pytest.raises(settings.SettingsError, match=r"trainer\.experiment_name = .* must be the name of one folder"):
        settings.resolve(config, partial=True)


@pytest.mark.parametrize("name", ["longrl", "loongrl-7b-seed1", "my run (2)", "größe=3,a", "v1.2", 7])
def test_names_that_are(composed, name: str | int):
    config = composed()
    config.trainer.experiment_name = name
    found = [folder.parts[-2:] for folder in settings.run_folders(config)]
    assert found == [("outputs", str(name)), (str(name), "checkpoints")]
