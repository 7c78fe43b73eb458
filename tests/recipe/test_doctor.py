"""The report for bugs: complete, quick, without secrets, also where something is broken."""

import importlib.metadata
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from recipe.longrl import doctor, versions

NVIDIA_SMI = """#!/bin/sh
echo "GPU-1, NVIDIA H200, 580.65.06, 1024, 143771"
"""


@pytest.fixture
def show(monkeypatch, capsys):
    """show(VARIABLE=value...) -> the report's sections, title -> lines."""

    def shown(**variables: str) -> dict[str, dict[str, str]]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        doctor.main()
        sections = {}
        for block in capsys.readouterr().out.strip().split("\n\n"):
            title, *lines = block.split("\n")
            sections[title] = {key.strip(): value.strip() for key, _, value in (line.partition(": ") for line in lines)}
        return sections

    return shown


def test_the_report_has_what_a_bug_report_needs(show):
    sections = show(VLLM_ATTENTION_BACKEND="X", RAY_ADDRESS="local", HTTPS_PROXY="http://proxy:3128", EDITOR="vi")
    assert [*sections] == ["Versions", "Environment", "GPUs", "Machine", "Ports", "Variables"]
    assert sections["Versions"]["torch"] == importlib.metadata.version("torch")
    assert sys.executable in sections["Versions"]["Python"]
    lock = versions.LOCKS / sections["Environment"]["lock"].split("/")[1].split(",")[0]
    assert sha256(lock.read_bytes()).hexdigest().startswith(sections["Environment"]["lock"].split()[-1])
    assert f"{os.cpu_count()} cores" in sections["Machine"]["CPU"]
    assert sections["Machine"]["/dev/shm"].endswith("GiB free")
    assert "unknown" not in [key for lines in sections.values() for key in lines]
    variables = sections["Variables"]
    assert (variables["VLLM_ATTENTION_BACKEND"], variables["RAY_ADDRESS"]) == ("X", "local")
    assert variables["HTTPS_PROXY"] == "http://proxy:3128"
    assert "EDITOR" not in variables


def test_packages_that_differ_from_the_lock_are_named(show, monkeypatch):
    monkeypatch.setattr(
        versions, "read_locked_versions", lambda lock: {"ray": "1.0.0", "no-such-thing": "2", "torch": "0.1"}
    )
    monkeypatch.setattr(doctor, "MOST_SHOWN", 2)
    ray = importlib.metadata.version("ray")
    assert show()["Environment"]["differs from the lock"] == (
        f"ray {ray} (lock: 1.0.0), no-such-thing not installed (lock: 2) and 1 more"
    )


def test_secrets_are_named_only(monkeypatch, capsys):
    for name, value in {
        "WANDB_API_KEY": "abcdefgh12345678",
        "HF_TOKEN": "hf_0123456789",
        "RAY_REDIS": "redis://me:hunter22hunter@host",
        "VLLM_NOTE": "the key is abcdefgh12345678",
    }.items():
        monkeypatch.setenv(name, value)
    doctor.main()
    shown = capsys.readouterr().out
    assert "WANDB_API_KEY:" in shown
    assert "the key is [" in shown
    for value in ("abcdefgh12345678", "hf_0123456789", "hunter22hunter"):
        assert value not in shown


def test_a_section_that_fails_says_why_and_the_others_follow(show, monkeypatch):
    def broken():
        yield "first", "fine"
        raise ImportError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setitem(doctor.SECTIONS, "GPUs", broken)
    sections = show()
    assert sections["GPUs"] == {
        "first": "fine",
        "unknown": "ImportError: libcudart.so.13: cannot open shared object file",
    }
    assert sections["Machine"]["CPU"]


def test_a_checkout_without_locks_is_reported(show, monkeypatch, tmp_path: Path):
    monkeypatch.setattr(versions, "LOCKS", tmp_path / "none")
    sections = show()
    assert "No such file" in sections["Environment"]["unknown"]
    assert sections["Versions"]["ray"]


@pytest.mark.engine
@pytest.mark.parametrize(
    ("script", "name", "expected"),
    [
        (NVIDIA_SMI, "GPU 0", "NVIDIA H200, 1.0 of 140.4 GiB in use, driver 580.65.06"),
        ("#!/bin/sh\necho 'No devices were found'\n", "GPUs", "none"),
        ("#!/bin/sh\necho broken >&2; exit 9\n", "GPUs", "unknown: nvidia-smi failed with status 9: broken"),
        ("#!/bin/sh\nexec sleep 60\n", "GPUs", "unknown: nvidia-smi did not end within"),
    ],
)
def test_gpus_are_those_of_nvidia_smi(show, monkeypatch, tmp_path: Path, script: str, name: str, expected: str):
    (tmp_path / "nvidia-smi").write_text(script)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setattr(doctor, "NVIDIA_SMI_S", 0.5)
    gpus = show(PATH=f"{tmp_path}:{os.environ['PATH']}")["GPUs"]
    assert gpus[name].startswith(expected)
    assert gpus["torch is built for"] in ("no CUDA", "CUDA 13.0")


def test_ports_in_use_are_found(show):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ports = show(LONGRL_RAY_PORT=str(port))["Ports"]
    assert ports[f"port {port}, Ray"] == "in use"


def test_it_imports_neither_torch_nor_ray_nor_verl():
    heavy = ("torch", "ray", "verl", "vllm", "transformers")
    code = (
        f"import sys; from recipe.longrl import doctor; doctor.main(); print([n for n in {heavy} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[]\n")
