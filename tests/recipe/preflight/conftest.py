"""A valid configuration on the demo's data with a tiny model, its preflight, fake programs, and inputs of probes."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import DictConfig
from support.demo_rows import write_demo_rows

from recipe.longrl import preflight, settings
from recipe.longrl.demo import model
from recipe.longrl.demo.grounded.build import GroundedBuild
from recipe.longrl.preflight import disk, model_loading
from recipe.longrl.preflight.nodes.probe_input import ClusterNode, DriverFacts, ProbeInput


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's data and an untrained model."""
    folder = tmp_path_factory.mktemp("assets")
    for split in ("train", "val"):
        write_demo_rows(folder / f"{split}.parquet", 8, split)
    build = GroundedBuild()
    words = build.tokenizer()
    model.save_model(model.build_model(words, build.circuits, 0), words, folder / "model")
    return folder


@pytest.fixture(autouse=True)
def own_ray(monkeypatch) -> None:
    """A cluster that happens to run on this machine is not joined."""
    monkeypatch.setenv("RAY_ADDRESS", "local")


@pytest.fixture(autouse=True)
def vllm_is_not_asked(monkeypatch) -> None:
    """Importing vLLM takes seconds: test_model_loading.py does, once for all its cases."""
    monkeypatch.setattr(model_loading, "vllm_arguments", lambda config: None)


@pytest.fixture
def configure(assets: Path, composed, tmp_path: Path):
    """configure(overrides) -> the resolved configuration of a CPU run on the demo's assets."""

    def make(*overrides: str) -> DictConfig:
        needed = [f"data.{split}_files=[{assets / f'{split}.parquet'}]" for split in ("train", "val")]
        needed += [f"actor_rollout_ref.model.path={assets / 'model'}", f"longrl.output_dir={tmp_path / 'run'}"]
        config = composed("model=demo", "hardware=cpu", *needed, *overrides)
        settings.resolve(config)
        return config

    return make


@pytest.fixture
def check(configure):
    """check(overrides) -> name -> (status, detail) of its whole preflight."""

    def run(*overrides: str, dry_run: bool = False) -> dict[str, tuple[str, str]]:
        return {c.name: (c.status, c.detail) for c in preflight.run(configure(*overrides), dry_run)}

    return run


@pytest.fixture
def program(tmp_path: Path, monkeypatch):
    """program(name, script) puts a shell script of that name first on the path."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def install(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return install


@pytest.fixture
def nvidia_smi(program):
    """nvidia_smi(GPUs, used MiB, processes, ...) has `nvidia-smi` show these. more: whole lines."""

    def install(
        gpus: int,
        used: object = 600,
        processes: str = "",
        driver: str = "580.95.05",
        total: object = 81559,
        more: tuple[str, ...] | list[str] = (),
    ) -> None:
        cards = [f"GPU-{number}, NVIDIA H100 80GB HBM3, {driver}, {used}, {total}" for number in range(gpus)]
        shown = "\n".join([*cards, *more])
        program("nvidia-smi", f"case \"$1\" in *gpu=*) printf '%s' '{shown}' ;; *) printf '%s' '{processes}' ;; esac")

    return install


@pytest.fixture
def free_disk(monkeypatch):
    """free_disk(GiB, ...) is the free space on every disk, or on /dev/shm alone where there are two numbers."""

    def set_free(gib: float, in_shared_memory: float | None = None) -> None:
        def usage(path):
            special = in_shared_memory is not None and Path(path).is_relative_to("/dev/shm")
            free = in_shared_memory if special else gib
            return SimpleNamespace(free=free * 2**30, total=2**60, used=0)

        monkeypatch.setattr(disk.shutil, "disk_usage", usage)

    return set_free


@pytest.fixture
def probe_input():
    """probe_input(config, gpus=..., free=..., ...) -> the input of a node's probes; others are the driver's facts."""

    def make(config: DictConfig | None, gpus: float = 1, free: float = 1, driver_time: float = 0.0, **driver):
        node = ClusterNode("node-id", "n0", gpus, free)
        return ProbeInput(config, node, DriverFacts(time=driver_time, **driver))

    return make
