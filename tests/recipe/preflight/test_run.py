"""The preflight as a whole: all lines of a good configuration, one line for a check that breaks, the dry run."""

import re
from pathlib import Path

import pytest

from recipe.longrl import main, preflight
from recipe.longrl.preflight import batch, check
from recipe.longrl.preflight.nodes import gpu_software

pytestmark = pytest.mark.engine


def test_a_good_configuration_passes(check, monkeypatch):
    asked = []
    monkeypatch.setattr(gpu_software, "check_gpu_software_here", lambda config, dry_run: asked.append(dry_run) or [])
    found = check()
    status, detail = found.pop("rollout engine")
    assert (status, detail.split(" /")[0]) == ("warn", "not checked: whether vllm can load")  # see conftest.py
    assert {status for status, _ in found.values()} == {"ok"}, found
    assert asked == [False]
    assert "8 rows" in found["data.train_files"][1]
    assert not preflight.failed([preflight.Check("x", "warn", "y")])


def test_a_check_that_breaks_is_a_line_and_stops_no_other(check, monkeypatch):
    def broken(config):
        yield preflight.Check("first", "ok", "done before")
        raise KeyError("surprise")

    monkeypatch.setattr(batch, "check_batch", broken)
    found = check()
    assert found["first"] == ("ok", "done before")
    assert found["batch"][0] == "FAIL"
    assert "KeyError: 'surprise'" in found["batch"][1]
    assert found["data.train_files"][0] == "ok"


def test_brackets_of_a_detail_are_shown(composed, capsys):
    preflight.show(composed(), [check.Check("data", "ok", "files [bold]a[/bold]")])
    assert "[bold]a[/bold]" in capsys.readouterr().out


@pytest.fixture
def real_run(assets: Path, tmp_path: Path) -> list[str]:
    """Command line of a run on 8 GPUs: real parquet, a model folder with a configuration and a tokenizer."""
    from transformers import AutoTokenizer, Qwen3Config

    shape = Qwen3Config(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=131072,
        architectures=["Qwen3ForCausalLM"],
    )
    shape.save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(assets / "model").save_pretrained(tmp_path / "model")
    files = [f"data.{split}_files=[{assets / f'{split}.parquet'}]" for split in ("train", "val")]
    batch = ["data.train_batch_size=8", "actor_rollout_ref.actor.ppo_mini_batch_size=8"]
    return [
        *files,
        *batch,
        f"actor_rollout_ref.model.path={tmp_path / 'model'}",
        f"longrl.output_dir={tmp_path / 'run'}",
    ]


def test_dry_run_of_a_real_run_needs_no_gpu(real_run: list[str], tmp_path: Path, capsys, monkeypatch):
    import torch
    from verl.plugin.platform import get_platform

    set_up_for_cpu = torch.version.cuda is None
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("COLUMNS", "400")
    main.main([*real_run, "hardware=8gpu", "--dry-run"])
    shown = capsys.readouterr().out
    rows = dict(re.findall(r"│ ([\w. ]+?) +│ (ok|warn|FAIL) +│", shown))
    assert rows["cluster"] == "warn", shown
    assert rows["versions"] == ("warn" if set_up_for_cpu else "ok"), shown
    assert rows["platform"] == ("warn" if get_platform().device_name == "cpu" else "ok"), shown
    assert ("bash scripts/setup.sh gpu will install verl 0.9.1, torch 2.11.0" in shown) == set_up_for_cpu
    for name in (
        "plugin",
        "batch",
        "logger",
        "plan",
        "context",
        "heads",
        "data.train_files",
        "memory",
        "generation",
        "vLLM replica",
    ):
        assert rows[name] == "ok", shown
    assert not (tmp_path / "run").exists()


def test_a_run_that_cannot_start_says_why_and_exits(real_run: list[str], capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SystemExit) as exit_:
        main.main([*real_run, "hardware=8gpu"])
    assert exit_.value.code == 2
    assert "nothing was started" in capsys.readouterr().err
