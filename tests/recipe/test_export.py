"""The export appears whole or says why not."""

import json
import subprocess
from pathlib import Path

import pytest
from verl_longrl.trainer.checkpoints import CheckpointError, seal

from recipe.longrl import export
from recipe.longrl.model_folder import prepared


@pytest.mark.parametrize(
    ("returncode", "stdout", "stderr", "said"),
    [
        (1, "", "Traceback\nValueError: no shard 3\n", "exit status 1: ValueError: no shard 3"),
        (2, "out of disk\n", "", "exit status 2: out of disk"),
        (-9, "", "", "exit status -9: it said nothing"),
    ],
)
def test_a_merger_that_dies_is_quoted(tmp_path: Path, monkeypatch, returncode, stdout, stderr, said):
    step = tmp_path / "checkpoints" / "global_step_3"
    step.mkdir(parents=True)
    seal(step, world_size=2)
    died = subprocess.CompletedProcess([], returncode, stdout, stderr)
    monkeypatch.setattr(export.subprocess, "run", lambda *_, **__: died)
    with pytest.raises(CheckpointError, match=said):
        export.export_final(tmp_path / "checkpoints", tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_nothing_to_export(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no whole checkpoint under"):
        export.export_final(tmp_path, tmp_path / "export")


@pytest.mark.engine
def test_the_export_of_a_prepared_model_needs_no_preparing(tmp_path: Path):
    """Contract: upstream's checkpoints hold the config that the trainer read, and its merger writes that one."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config

    chunk = {"chunk_size": 262144, "local_size": 8192, "original_max_position_embeddings": 262144}
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 64}
    shape = Qwen2Config(**sizes, num_attention_heads=4, num_key_value_heads=2, architectures=["Qwen2ForCausalLM"])
    shape.dual_chunk_attention_config = chunk
    AutoModelForCausalLM.from_config(shape).save_pretrained(tmp_path / "model")
    assert "dual_chunk_attention_config" in (tmp_path / "model" / "config.json").read_text()
    run = prepared(str(tmp_path / "model"), tmp_path / "run" / "model", length=4096)

    actor = tmp_path / "checkpoints" / "global_step_1" / "actor"
    trained = AutoModelForCausalLM.from_pretrained(run, dtype=torch.float32)
    AutoConfig.from_pretrained(run).save_pretrained(actor / "huggingface")  # as FSDPCheckpointManager does
    torch.save(trained.state_dict(), actor / "model_world_size_1_rank_0.pt")
    (actor / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": 1}))
    seal(actor.parent, world_size=1)

    exported = export.export_final(tmp_path / "checkpoints", tmp_path / "export")
    assert "dual_chunk_attention_config" not in json.loads((exported / "config.json").read_text())
    assert prepared(str(exported), tmp_path / "next" / "model", length=4096) == str(exported)
