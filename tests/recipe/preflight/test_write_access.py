"""Who else can write what a run reads again."""

import grp
import os
import pwd
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from recipe.longrl.preflight import write_access

MODE_OF_A_PROJECT = 0o2775


@pytest.fixture
def config(tmp_path: Path):
    """The part of a configuration that is looked at, of a run in a folder of its own."""
    output_dir = tmp_path / "run"
    return OmegaConf.create(
        {
            "longrl": {"output_dir": str(output_dir), "trust_folder": False},
            "trainer": {"default_local_dir": str(output_dir / "checkpoints")},
        }
    )


@pytest.fixture
def project(monkeypatch) -> None:
    """This user is in a group with others."""
    group = SimpleNamespace(gr_name="team", gr_mem=["ada", "grace"])
    monkeypatch.setattr(grp, "getgrgid", lambda gid: group)


def details(config, dry_run: bool = False) -> list[str]:
    checks = list(write_access.check_write_access(config, dry_run))
    assert all(check.status == "FAIL" for check in checks)
    return [check.detail for check in checks]


def test_a_new_run_in_a_folder_of_a_project(config, project, tmp_path):
    """What others can write is the folder above."""
    tmp_path.chmod(MODE_OF_A_PROJECT)
    assert details(config) == []
    tmp_path.chmod(0o1777)
    assert details(config) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["run", "run/checkpoints"])
def test_folders_that_others_can_write(config, project, tmp_path, part):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / part).chmod(MODE_OF_A_PROJECT)
    (line,) = details(config)
    assert f"the group team can write {tmp_path / part}" in line
    assert "longrl.trust_folder=true" in line
    (tmp_path / part).chmod(0o757)
    assert f"everybody can write {tmp_path / part}" in details(config)[0]
    config.longrl.trust_folder = True
    assert details(config) == []


def test_the_private_group_that_many_systems_give_each_user(config, monkeypatch, tmp_path):
    me = pwd.getpwuid(os.geteuid()).pw_name
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o775)
    for members, expected in (([], 0), ([me], 0), ([me, "ada"], 1)):
        monkeypatch.setattr(grp, "getgrgid", lambda gid, m=members: SimpleNamespace(gr_name=me, gr_mem=m))
        assert len(details(config)) == expected


def test_folders_of_another_user(config, monkeypatch, tmp_path):
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 4242)
    owner = os.getuid()
    found = details(config)
    assert len(found) == (0 if owner == 0 else 1)  # root may write everywhere
    if owner == 0:
        os.chown(tmp_path / "run", 65534, 65534)
        (found,) = details(config)
        assert f"{tmp_path / 'run'} belongs to user " in found


def test_a_file_system_on_which_everybody_can_write_everything(config, monkeypatch):
    """Some network mounts: told before the first start, not when a requeued job resumes."""
    chmod = os.chmod
    monkeypatch.setattr(write_access.os, "chmod", lambda path, mode, **more: chmod(path, 0o777, **more))
    (first, _) = details(config)
    assert "a folder that is created in" in first
    assert details(config, dry_run=True) == []  # nothing is made
