"""Every program that reads a configuration refuses one with a secret, and does not show it."""

import os

import pytest
from verl_longrl.secret_settings import SecretSettingError, refuse_secrets

from data_gen.config import ConfigError
from data_gen.grounding.pipeline import GROUNDING
from recipe.longrl import settings

CANARY = "canary-of-mine"
NEEDED = ["data.train_files=[t.parquet]", "data.val_files=[v.parquet]", "actor_rollout_ref.model.path=some/model"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"judge": {"endpoints": [f"https://me:{CANARY}@host/v1"]}},
            "endpoints = 'https://[user and password]@h",
        ),
        (
            {"judge": {"endpoints": [f"https://host/v1?key={CANARY}"]}},
            "export the key as the environment variable that api_key_env",
        ),
        ({"ray_init": {"env_vars": {"X_KEY": CANARY}}}, "ray_init.env_vars.X_KEY = '[hidden]': this is a secret"),
        ({"ray_init": {"env_vars": {"X_KEY": CANARY}}}, "LONGRL_FORWARD_ENV=X_KEY forwards it to every worker"),
        ({"ray_init": {"env_vars": {"DB": f"mysql://me:{CANARY}@h"}}}, "ray_init.env_vars.DB = 'mysql://[user and"),
        ({"engine": {"vllm": {"api_key": CANARY}}}, "engine.vllm.api_key = '[hidden]': this is a secret"),
        ({"hub": {"token": CANARY}}, "hub.token = '[hidden]': this is a secret"),
        ({"tracking": [{"password": CANARY}]}, "tracking.password = '[hidden]': this is a secret"),
        ({"name": f"run of {CANARY}s"}, "name = 'run of [secret HF_TOKEN]s': this is a secret"),
    ],
)
def test_refused(monkeypatch, values, said: str):
    monkeypatch.setenv("HF_TOKEN", CANARY)
    with pytest.raises(SecretSettingError) as error:
        refuse_secrets(values)
    assert said in str(error.value)
    assert CANARY not in str(error.value)


def test_names_that_only_sound_secret_are_accepted():
    refuse_secrets(
        {"data": {"prompt_key": "prompt", "reward_fn_key": "data_source"}, "image_token": "<image>", "token": ""}
    )
    refuse_secrets({"judge": {"api_key_env": "MY_KEY", "endpoints": ["http://host/v1"]}, "use_auth_token": True})
    refuse_secrets({"env_vars": {"TOKENIZERS_PARALLELISM": "true", "NCCL_DEBUG": "INFO"}, "path": "hdfs://me@host/x"})


@pytest.mark.engine
@pytest.mark.parametrize(
    "override",
    [
        f"longrl.judge.endpoints=[https://me:{CANARY}@host/v1]",
        f"ray_kwargs.ray_init.runtime_env.env_vars.MY_TOKEN={CANARY}",
        f"longrl.judge.api_key={CANARY}",
        f"+actor_rollout_ref.rollout.engine_kwargs.vllm.api_key={CANARY}",
        "trainer.project_name=${oc.env:HF_TOKEN}",
    ],
)
def test_a_run_is_not_started(monkeypatch, override: str):
    monkeypatch.setenv("HF_TOKEN", f"{CANARY}-token")
    with pytest.raises(settings.SettingsError, match="this is a secret, and configurations are printed") as error:
        settings.resolve(settings.compose([*NEEDED, override]))
    assert CANARY not in str(error.value)


def test_a_foreign_configuration_cannot_send_a_key_to_its_server(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", CANARY)
    file = tmp_path / "shared.yaml"
    file.write_text("servers: {one: {endpoints: ['http://theirs.example/${oc.env:HF_TOKEN}/v1']}}\n")
    with pytest.raises(ConfigError, match=r"servers.one.endpoints = 'http://theirs.example/\[secret HF_TOKEN\]/v1"):
        GROUNDING.config.load(file, [])


@pytest.mark.engine
def test_secrets_in_a_file_of_the_users_are_loaded(monkeypatch, tmp_path):
    file = tmp_path / "keys.json"
    file.write_text('{"MY_OWN_KEY": "of-the-user"}')
    file.chmod(0o644)
    monkeypatch.setenv("LONGRL_SECRETS_FILE", str(file))
    monkeypatch.setenv("MY_OWN_KEY", "before")
    with pytest.raises(settings.SettingsError, match="others can read it"):
        settings.compose([])
    file.chmod(0o600)
    settings.compose([])
    assert os.environ["MY_OWN_KEY"] == "of-the-user"
