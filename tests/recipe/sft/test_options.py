"""The options of supervised runs: read, written over a run's keys, and handed to other processes unchanged."""

import pytest

from recipe.longrl import settings
from recipe.longrl.sft import options
from recipe.longrl.sft.options import SftOptions


def test_options_and_overrides_are_told_apart():
    found, others = options.split_options(
        ["hardware=cpu", "sft.lr=5e-5", "sft.train_files=demos.parquet", "sft.steps=3"]
    )
    assert found == SftOptions(train_files=("demos.parquet",), lr=5e-5, steps=3)
    assert others == ["hardware=cpu"]


@pytest.mark.parametrize(
    "given",
    [
        SftOptions(),
        SftOptions(train_files=("a b.parquet", "it's,[c].parquet"), lr=2e-5, test_freq=None, schedule="constant"),
    ],
)
def test_the_arguments_of_options_give_the_same_options(given: SftOptions):
    assert options.split_options(options.as_arguments(given)) == (given, [])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("sft.learning_rate=1", "sft.learning_rate = 1: unknown key"),
        ("sft.lr=-1", "sft.lr = -1: expected a number above 0"),
        ("sft.schedule=linear", "sft.schedule = 'linear': expected one of constant, cosine"),
        ("sft.steps=0", "sft.steps = 0: expected a whole number of at least 1"),
    ],
)
def test_a_wrong_option_is_named(argument: str, message: str):
    with pytest.raises(settings.SettingsError, match=message):
        options.split_options([argument])


def test_options_take_the_place_of_a_runs_keys(composed):
    config = composed("hardware=cpu", "longrl.reward.answer.by=judge", "data.train_batch_size=512")
    options.apply_options(
        config, SftOptions(train_files=("d.parquet",), lr=3e-5, batch_size=4, steps=7, test_freq=None)
    )
    assert (config.data.train_files, config.data.val_files, config.data.train_batch_size) == (["d.parquet"], [], 4)
    assert config.actor_rollout_ref.actor.optim.lr == 3e-5
    assert (config.trainer.total_training_steps, config.trainer.test_freq) == (7, -1)
    assert config.trainer.total_epochs == 7  # never too few for the steps
    assert config.longrl.reward.answer.by == "rule"
    assert config.data.custom_cls.name == "DemonstrationDataset"  # so no other run continues in this folder


def test_the_trainer_gets_the_runs_model_engine_and_optimizer(composed):
    config = composed("hardware=8gpu", "data.max_response_length=100")
    options.apply_options(config, SftOptions(train_files=("d.parquet",), lr=3e-5))
    made = options.trainer_config(config)
    assert made["model"]["path"] == "some/model"
    assert made["engine"]["strategy"] == "fsdp2"
    assert made["engine"]["ulysses_sequence_parallel_size"] == 4
    assert made["engine"]["max_token_len_per_gpu"] == made["data"]["max_token_len_per_gpu"] == 22528
    assert (made["optim"]["lr"], made["optim"]["clip_grad"]) == (3e-5, 1.0)
    assert made["data"]["pad_mode"] == "no_padding"
