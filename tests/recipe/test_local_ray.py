"""Where a local Ray listens and keeps its files."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from ray._private import ray_constants, services

from recipe.longrl import local_ray, private_folders, settings

pytestmark = pytest.mark.engine
PYTHON = "+ray_kwargs.ray_init.runtime_env.py_executable=python"


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "local")  # other tests start clusters on this machine
    for name in (*local_ray.LOOPBACK, local_ray.KERNELS):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("hardware", ["cpu", "1gpu", "8gpu"])
def test_it_is_on_loopback_and_its_files_are_in_a_private_folder(hardware):
    config = settings.compose([f"hardware={hardware}", PYTHON])
    before, root = dict(os.environ), private_folders.user_folder()
    with local_ray.own_ray(config) as python:
        assert python is None
        assert services.get_node_ip_address() == "127.0.0.1"
        folder = Path(config.ray_kwargs.ray_init._temp_dir)
        assert folder.parent == root
        assert config.ray_kwargs.ray_init.address == "local"  # whatever cluster another user's file names
        assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(folder)
        assert local_ray.LOOPBACK.items() <= os.environ.items()
        assert Path(os.environ[local_ray.KERNELS]).parent == folder.parent, "it would go with the run"
    assert os.environ == before
    assert ray_constants.ENABLE_RAY_CLUSTER
    assert config.ray_kwargs.ray_init._temp_dir is config.ray_kwargs.ray_init.address is None
    assert not folder.exists()


def test_a_cluster_that_is_not_joined_is_told_of(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("RAY_ADDRESS")
    named = tmp_path / "ray_current_cluster"
    named.write_text("10.0.0.7:6379")
    named.chmod(0o666)
    config = settings.compose(["hardware=8gpu", f"+{local_ray.RAY_FOLDER}={tmp_path}"])
    with local_ray.own_ray(config):
        assert config.ray_kwargs.ray_init.address == "local"
    assert f"everybody can write {named}, so the Ray cluster that it names is not joined" in capsys.readouterr().out


def test_what_torch_compiles_stays_for_the_next_run():
    """Kernels, and the headers that torch keeps in the temporary folder."""
    config, kept = settings.compose(["hardware=cpu", PYTHON]), []
    ask = "from torch._inductor import codecache; print(codecache.cache_dir(), codecache._HEADER_DIR)"
    for _ in range(2):
        with local_ray.own_ray(config):
            asked = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
            kept.append([os.path.realpath(folder) for folder in asked.stdout.split()])
    assert kept[0] == kept[1]
    assert {Path(folder).is_relative_to(private_folders.user_folder() / "torchinductor") for folder in kept[0]} == {
        True
    }


def test_what_the_user_has_set_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth0")
    config = settings.compose(["hardware=8gpu", f"+{local_ray.RAY_FOLDER}={tmp_path}"])
    with local_ray.own_ray(config):
        assert os.environ["NCCL_SOCKET_IFNAME"] == "eth0"
        assert config.ray_kwargs.ray_init._temp_dir == str(tmp_path)


def test_a_cluster_is_joined_as_it_is(monkeypatch):
    config = settings.compose(["hardware=8gpu", "+ray_kwargs.ray_init.address=192.0.2.1:6379"])
    before = dict(os.environ)
    with local_ray.own_ray(config) as python:
        assert python is None
        assert os.environ == before


def failing(config) -> None:
    with local_ray.own_ray(config):
        logs = Path(config.ray_kwargs.ray_init._temp_dir) / "session_2026-01-01_00-00-00_000000_1" / "logs"
        logs.mkdir(parents=True)
        (logs / "raylet.out").write_text("why")
        raise OSError("broken")


def test_rays_logs_stay_when_a_run_fails(tmp_path):
    with pytest.raises(OSError, match="broken"):
        failing(settings.compose(["hardware=cpu", PYTHON, f"longrl.output_dir={tmp_path}"]))
    assert (tmp_path / local_ray.LOGS / "raylet.out").read_text() == "why"
