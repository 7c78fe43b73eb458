"""Which variables reach the workers of a running Ray, which must not, and how they get there."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray._private.ray_constants as ray_constants
import ray._private.runtime_env.constants as ray_names
import yaml
from omegaconf import OmegaConf
from ray.runtime_env.runtime_env import _merge_runtime_env
from verl_longrl import secrets

from recipe.longrl import run_identity, settings, worker_env

pytestmark = pytest.mark.engine


@pytest.mark.parametrize(
    ("name", "goes"),
    [
        *((name, True) for name in ("NCCL_DEBUG", "NCCL_SOCKET_IFNAME", "VLLM_USE_V1", "HF_TOKEN", "WANDB_API_KEY")),
        *((name, True) for name in ("OMP_NUM_THREADS", "PYTORCH_ALLOC_CONF", "TENSORBOARD_DIR", "LONGRL_VERBOSE")),
        *((name, False) for name in ("HF_HOME", "VLLM_HOST_IP", "WANDB_DIR", "PATH", "HOME", "LD_LIBRARY_PATH")),
        *((name, False) for name in ("CUDA_VISIBLE_DEVICES", "RAY_ADDRESS", "SLURM_PROCID", "LOCAL_RANK")),
    ],
)
def test_what_goes(name: str, goes: bool):
    found = worker_env.forwarded_env({name: "x"})
    assert (name in {**found.variables, **found.secrets}) == goes


def test_the_users_own_go_by_name_even_a_nodes():
    environment = {
        "MINE": "1",
        "HF_HOME": "/shared/hf",
        "OTHER": "2",
        "KEY": "k",
        "LONGRL_FORWARD_ENV": "MINE, HF_HOME,",
    }
    found = worker_env.forwarded_env(environment, ["KEY", "ABSENT"])
    assert found.variables.keys() == {"MINE", "HF_HOME", "LONGRL_FORWARD_ENV", worker_env.EXTERNAL}
    assert found.secrets == {"KEY": "k"}


@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "RAY_ADDRESS", "SLURM_JOB_ID", "RANK"])
def test_what_belongs_to_a_process_is_refused(name: str):
    with pytest.raises(worker_env.ForwardError, match=f"names {name}: set for each process separately"):
        worker_env.forwarded_env({name: "0", "LONGRL_FORWARD_ENV": name})


def test_a_mistyped_name_stops_the_run(composed, monkeypatch):
    monkeypatch.setenv("LONGRL_FORWARD_ENV", "MIEN")
    with pytest.raises(settings.SettingsError, match="LONGRL_FORWARD_ENV names MIEN: not set here"):
        settings.resolve(composed())


def test_verl_imports_the_plugin_or_fails_and_the_users_modules_before():
    assert worker_env.forwarded_env({}).variables[worker_env.EXTERNAL] == "verl_longrl.plugin"
    again = worker_env.forwarded_env({worker_env.EXTERNAL: "mine,verl_longrl.plugin"})
    assert again.variables[worker_env.EXTERNAL] == "mine,verl_longrl.plugin"


@pytest.fixture
def given(monkeypatch):
    """given(what ray.init is given) -> the runtime environment that a job has then, as Ray merges it."""
    monkeypatch.delenv(worker_env.JOB_CONFIG, raising=False)

    def merged(runtime_env):
        from ray.job_config import JobConfig

        injected = JobConfig.from_json(yaml.safe_load(os.environ[worker_env.JOB_CONFIG]))
        override = os.environ[worker_env.OVERRIDE] == "1"
        return _merge_runtime_env(injected.runtime_env, runtime_env, override=override)

    return merged


def test_ray_init_hands_it_on_and_what_it_is_given_wins(composed, monkeypatch, given, tmp_path):
    assert ray_names.RAY_JOB_CONFIG_JSON_ENV_VAR == worker_env.JOB_CONFIG
    assert ray_constants.WORKER_PROCESS_SETUP_HOOK_ENV_VAR == worker_env.HOOK
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    monkeypatch.setenv("MY_JUDGE", "key")
    before = dict(os.environ)
    with worker_env.forward_env(
        composed("longrl.judge.api_key_env=MY_JUDGE", f"longrl.output_dir={tmp_path}")
    ) as names:
        job = given({"working_dir": None, "env_vars": {"VLLM_LOGGING_LEVEL": "WARN"}})
    assert dict(os.environ) == before
    assert {"NCCL_DEBUG", "VLLM_LOGGING_LEVEL", "MY_JUDGE"} <= {*names}
    assert job["env_vars"]["NCCL_DEBUG"] == "INFO"
    assert job["env_vars"]["VLLM_LOGGING_LEVEL"] == "WARN"


def test_workers_read_secrets_from_a_file_of_their_owner(composed, monkeypatch, given, tmp_path):
    """Everything that Ray is given appears in its logs and on its workers' command lines."""
    ours = {"WANDB_API_KEY": "of-the-logger", "MY_JUDGE": "of-the-judge", "AWS_SECRET_ACCESS_KEY": "of-the-store"}
    for name, value in {**ours, "OPENAI_BASE_URL": "http://me:of-the-proxy@host/v1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LONGRL_FORWARD_ENV", "AWS_SECRET_ACCESS_KEY")
    leftover = tmp_path / ".secrets-0.json"
    leftover.write_text("{}")
    with worker_env.forward_env(composed("longrl.judge.api_key_env=MY_JUDGE", f"longrl.output_dir={tmp_path}")):
        job = given({"env_vars": {}})["env_vars"]
        assert "of-the-" not in os.environ[worker_env.JOB_CONFIG]
        file = Path(job[secrets.FILE_VARIABLE])
        assert file.parent == tmp_path
        assert file.stat().st_mode & 0o777 == 0o600
        assert not leftover.exists()
        told = f"import os; from {job[worker_env.HOOK].rpartition('.')[0]} import load; load(); print(dict(os.environ))"
        worker = subprocess.run(
            [sys.executable, "-c", told], env={**secrets.without(os.environ), **job}, capture_output=True, text=True
        )
        seen = ast.literal_eval(worker.stdout)
        assert ours.items() <= seen.items()
        assert seen["OPENAI_BASE_URL"] == "http://me:of-the-proxy@host/v1"
        assert seen["LONGRL_RUN_SECRET"] == os.environ["LONGRL_RUN_SECRET"]
    assert not file.exists()


def test_a_visit_leaves_the_files_of_a_run_alone(composed, tmp_path):
    config = composed(f"longrl.output_dir={tmp_path}")
    with worker_env.forward_env(config):
        file = Path(os.environ[secrets.FILE_VARIABLE])
        with worker_env.forward_env(config, visiting=True):
            assert os.environ[secrets.FILE_VARIABLE] != str(file)
        assert os.environ[secrets.FILE_VARIABLE] == str(file)
        assert file.exists()


def test_a_users_own_hook_stays(composed, given, tmp_path):
    hook = "+ray_kwargs.ray_init.runtime_env.worker_process_setup_hook=mine.hook"
    with worker_env.forward_env(composed(hook, f"longrl.output_dir={tmp_path}")):
        assert worker_env.HOOK not in given({"env_vars": {}})["env_vars"]


def test_inside_a_ray_job_its_own_environment_stays(composed, monkeypatch, given, tmp_path):
    job = '{"runtime_env": {"working_dir": "gcs://a.zip", "env_vars": {"OF_THE_JOB": "1"}}, "metadata": {"name": "j"}}'
    monkeypatch.setenv(worker_env.JOB_CONFIG, job)
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    with worker_env.forward_env(composed(f"longrl.output_dir={tmp_path}")):
        merged = given({"env_vars": {}})
        assert yaml.safe_load(os.environ[worker_env.JOB_CONFIG])["metadata"] == {"name": "j"}
    assert os.environ[worker_env.JOB_CONFIG] == job
    assert merged["working_dir"] == "gcs://a.zip"
    assert {"OF_THE_JOB", "NCCL_DEBUG"} <= merged["env_vars"].keys()


def test_no_secret_is_in_a_configuration(composed, monkeypatch, tmp_path):
    """Which `--config` prints, verl prints, loggers upload and the run's folder keeps."""
    monkeypatch.setenv("WANDB_API_KEY", "a-secret")
    monkeypatch.setenv("LONGRL_JUDGE_API_KEY", "a-secret")
    config = composed(f"longrl.output_dir={tmp_path}")
    settings.resolve(config)
    with worker_env.forward_env(config):
        run_identity.store_config(config)
        assert "a-secret" not in OmegaConf.to_yaml(config, resolve=True)
    assert "a-secret" not in (tmp_path / run_identity.STORED).read_text()


def test_a_cluster_that_is_joined_has_its_own_size(composed, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    config = composed("hardware=cpu")
    settings.resolve(config)
    assert all(config.ray_kwargs.ray_init.get(key) is None for key in worker_env.SIZES)
    assert config.ray_kwargs.ray_init.runtime_env.env_vars.VERL_PLATFORM == "cpu"


@pytest.mark.parametrize("address", ["local", ""])
def test_a_ray_of_its_own_has_the_hardwares(composed, monkeypatch, address: str):
    monkeypatch.setenv("RAY_ADDRESS", address)
    config = composed("hardware=cpu", "trainer.n_gpus_per_node=2")
    settings.resolve(config)
    assert (config.ray_kwargs.ray_init.num_gpus, config.ray_kwargs.ray_init.num_cpus) == (2, 16)
