"""An export appears complete or fails with a reason; the checkpoint decides how its weights are gathered."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from verl_longrl.trainer.checkpoints import CheckpointError, begin_checkpoint, seal_checkpoint

from recipe.longrl import export as module
from recipe.longrl.export import export_checkpoint
from recipe.longrl.model_folder import prepare_model

pytestmark = pytest.mark.engine
WEIGHTS = {"config.json": "{}", "model.safetensors": "weights", "tokenizer.json": "{}"}


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def megatron(model_format: str, peft: bool = False, **more: dict) -> str:
    """As verl's MegatronCheckpointManager._build_checkpoint_manifest has it."""
    contents = {"model": {"format": model_format}, "optimizer": {"format": "megatron_dist_checkpoint"}, **more}
    return json.dumps({"framework": "megatron", "backend": {"peft": peft}, "contents": contents})


@pytest.fixture
def checkpoint(tmp_path: Path):
    """checkpoint(step, files of its actor) -> a whole checkpoint."""

    def make(step: int, files: dict[str, str]) -> Path:
        folder = tmp_path / "checkpoints" / f"global_step_{step}"
        begin_checkpoint(folder)
        written(folder / "actor", files)
        seal_checkpoint(folder, world_size=2)
        return folder

    return make


@pytest.fixture
def merges(monkeypatch) -> list[list[str]]:
    """Commands of the merger, which writes a model."""
    commands: list[list[str]] = []

    def merge(command, **_):
        commands.append(command)
        target = written(Path(command[command.index("--target_dir") + 1]), WEIGHTS | {"lora_adapter/a.json": "{}"})
        (target / "model.safetensors").chmod(0o600)  # as safetensors writes it
        (target / "lora_adapter").chmod(0o700)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", merge)
    return commands


FSDP = {"fsdp_config.json": "{}", "model_world_size_2_rank_0.pt": "shard"}


@pytest.mark.parametrize(
    ("returncode", "stdout", "stderr", "said"),
    [
        (1, "", "Traceback\nValueError: no shard 3\n", "exit status 1: ValueError: no shard 3"),
        (2, "out of disk\n", "", "exit status 2: out of disk"),
        (-9, "", "", "exit status -9: it printed nothing"),
    ],
)
def test_a_merger_that_dies_is_quoted(checkpoint, tmp_path: Path, monkeypatch, returncode, stdout, stderr, said):
    checkpoint(3, FSDP)
    died = subprocess.CompletedProcess([], returncode, stdout, stderr)
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: died)
    with pytest.raises(CheckpointError, match=said):
        export_checkpoint(tmp_path / "checkpoints", tmp_path / "export")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_nothing_to_export(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no complete checkpoint to export under"):
        export_checkpoint(tmp_path, tmp_path / "export")


def test_a_step_of_choice(checkpoint, merges, tmp_path: Path):
    for step in (10, 20, 30):
        checkpoint(step, FSDP)
    (tmp_path / "checkpoints" / "global_step_30" / "actor" / "fsdp_config.json").unlink()
    target = export_checkpoint(tmp_path / "checkpoints", tmp_path / "export", 10)
    assert json.loads((target / module.MARKER).read_text())["step"] == 10
    export_checkpoint(tmp_path / "checkpoints", target)
    assert json.loads((target / module.MARKER).read_text())["step"] == 20
    for step, reason in ((15, "not found"), (30, "fsdp_config.json is missing")):
        with pytest.raises(CheckpointError, match=rf"step {step} under .*: .*{reason}. Complete steps: 10, 20"):
            export_checkpoint(tmp_path / "checkpoints", target, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "export"]


def test_the_same_checkpoint_once_and_one_of_a_new_run_again(checkpoint, merges, tmp_path: Path):
    folder = checkpoint(10, FSDP)
    target = export_checkpoint(tmp_path / "checkpoints", tmp_path / "export")
    (target / "README.md").write_text("edited")
    assert module.is_up_to_date(tmp_path / "checkpoints", target)
    export_checkpoint(tmp_path / "checkpoints", target)
    assert (len(merges), (target / "README.md").read_text()) == (1, "edited")
    manifest = folder / "complete.json"
    os.utime(manifest, ns=(0, manifest.stat().st_mtime_ns + 1))
    export_checkpoint(tmp_path / "checkpoints", target)
    assert len(merges) == 2
    assert "step 10" in (target / "README.md").read_text()


def test_files_of_others_stay(checkpoint, merges, tmp_path: Path):
    checkpoint(10, FSDP)
    with pytest.raises(CheckpointError, match="contains files that no export wrote"):
        export_checkpoint(tmp_path / "checkpoints", written(tmp_path / "papers", {"thesis.tex": "years"}))
    assert (tmp_path / "papers" / "thesis.tex").read_text() == "years"
    assert merges == []
    export_checkpoint(
        tmp_path / "checkpoints", written(tmp_path / "old", {"longrl_step.txt": "4"})
    )  # of an earlier version
    assert not (tmp_path / "old" / "longrl_step.txt").exists()
    assert (tmp_path / "old.old" / "longrl_step.txt").exists()  # which did not list what else was of the export


def test_what_somebody_added_to_an_export_stays(checkpoint, merges, tmp_path: Path):
    checkpoint(10, FSDP)
    target = export_checkpoint(tmp_path / "checkpoints", tmp_path / "export")
    checkpoint(20, FSDP)
    written(target, {"evaluation/results.json": "mine"})
    with pytest.raises(CheckpointError, match=r"export did not write: evaluation/results\.json\. Fix: move them"):
        export_checkpoint(tmp_path / "checkpoints", target)
    assert (target / "evaluation" / "results.json").read_text() == "mine"
    assert json.loads((target / module.MARKER).read_text())["step"] == 10
    (target / "evaluation" / "results.json").unlink()
    export_checkpoint(tmp_path / "checkpoints", target)
    assert json.loads((target / module.MARKER).read_text())["step"] == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "export"]


def test_a_link_to_another_disk_stays_one(checkpoint, merges, tmp_path: Path):
    checkpoint(10, FSDP)
    (tmp_path / "bulk" / "model").mkdir(parents=True)
    (tmp_path / "export").symlink_to(tmp_path / "bulk" / "model")
    export_checkpoint(tmp_path / "checkpoints", tmp_path / "export")
    checkpoint(20, FSDP)
    export_checkpoint(tmp_path / "checkpoints", tmp_path / "export")
    assert (tmp_path / "export").is_symlink()
    assert json.loads((tmp_path / "bulk" / "model" / module.MARKER).read_text())["step"] == 20
    assert [path.name for path in (tmp_path / "bulk").iterdir()] == ["model"]


def test_what_killed_exports_left_goes_what_others_put_there_does_not(checkpoint, merges, tmp_path: Path):
    checkpoint(10, FSDP)
    gone = {"pid": 2**22 + 1, "started": 0}
    written(tmp_path / ".export.partial", {module.EXPORTER: json.dumps(gone), "model.safetensors": "half"})
    written(
        tmp_path / ".export.before", {module.MARKER: '{"files": ["model.safetensors"]}', "model.safetensors": "old"}
    )
    module.remove_leftovers(tmp_path / "export")  # killed between two renames: it has its name again
    assert (tmp_path / "export" / "model.safetensors").read_text() == "old"
    target = export_checkpoint(tmp_path / "checkpoints", tmp_path / "export")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "export"]

    checkpoint(20, FSDP)
    written(tmp_path / ".export.partial", {"thesis.tex": "years"})
    with pytest.raises(CheckpointError, match="which no export wrote"):
        export_checkpoint(tmp_path / "checkpoints", target)
    assert (tmp_path / ".export.partial" / "thesis.tex").is_file()


def test_two_at_a_time(checkpoint, merges, tmp_path: Path):
    checkpoint(10, FSDP)
    other = psutil.Process(os.getppid())
    exporter = {"pid": other.pid, "started": other.create_time()}
    written(tmp_path / ".export.partial", {module.EXPORTER: json.dumps(exporter)})
    with pytest.raises(CheckpointError, match=f"process {other.pid} is exporting to"):
        export_checkpoint(tmp_path / "checkpoints", tmp_path / "export")


def flip(path: Path, content: bytes) -> None:
    raw = bytearray(path.read_bytes())
    raw[raw.index(content)] ^= 0x40
    path.write_bytes(raw)


def shards(value: float) -> dict[str, bytes]:
    """A checkpoint's files with a tensor of this value."""
    import io

    import torch

    held = io.BytesIO()
    torch.save({"w": torch.full((8,), value)}, held)
    return {"model_world_size_1_rank_0.pt": held.getvalue(), "optim_world_size_1_rank_0.pt": held.getvalue()}


def test_a_damaged_checkpoint_is_not_exported(checkpoint, merges, tmp_path: Path, capsys):
    for step in (10, 20, 30):
        folder = checkpoint(step, FSDP)
        for name, content in shards(float(step)).items():
            (folder / "actor" / name).write_bytes(content)
        seal_checkpoint(folder, world_size=1)
    value = struct.pack("<f", 30.0) * 8
    flip(folder / "actor" / "model_world_size_1_rank_0.pt", value)
    flip(
        tmp_path / "checkpoints" / "global_step_20" / "actor" / "optim_world_size_1_rank_0.pt", struct.pack("<f", 20.0)
    )
    with pytest.raises(CheckpointError, match=r"step 30 under .*model_world_size_1_rank_0\.pt is damaged: record "):
        export_checkpoint(tmp_path / "checkpoints", tmp_path / "export", 30)
    # 20 is exported: the state of its optimizer, which is not read, is what is damaged.
    target = export_checkpoint(tmp_path / "checkpoints", tmp_path / "export")
    assert json.loads((target / module.MARKER).read_text())["step"] == 20
    said = capsys.readouterr().out
    assert f"export: {folder} is not used: actor/model_world_size_1_rank_0.pt is damaged" in said
    assert (folder / "complete.json").is_file()


def test_a_checkpoint_that_wants_to_run_code_is_not_exported(checkpoint, merges, tmp_path: Path):
    import torch

    class Attack:
        def __reduce__(self):
            return os.system, ("true",)

    folder = checkpoint(10, FSDP)
    torch.save(Attack(), folder / "actor" / "model_world_size_1_rank_0.pt")
    seal_checkpoint(folder, world_size=1)
    with pytest.raises(CheckpointError, match=r"model_world_size_1_rank_0\.pt calls posix\.system to be loaded"):
        export_checkpoint(tmp_path / "checkpoints", tmp_path / "export")
    assert merges == []


EXPORTING = """
import sys, time
from pathlib import Path
from recipe.longrl import export
export._write_weights = lambda folder, target, config: export.subprocess.run(
    [sys.executable, "-c", {child!r}, str(export.os.getpid()), "--backend", "fsdp"], capture_output=True)
with export.exit_on_signals():
    export.export_checkpoint(Path("checkpoints"), Path("export"))
"""
MERGING = """
import os, time
from pathlib import Path
from recipe.longrl import merger
merger.runpy.run_module = lambda *_, **__: (Path("merging").write_text(str(os.getpid())), time.sleep(600))
merger.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_export_that_is_ended_takes_its_merger_with_it(checkpoint, tmp_path: Path, number):
    checkpoint(10, FSDP)
    command = [sys.executable, "-c", EXPORTING.format(child=MERGING)]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    until((tmp_path / "merging").exists)
    merging = psutil.Process(int((tmp_path / "merging").read_text()))
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    until(lambda: not merging.is_running() or merging.status() == psutil.STATUS_ZOMBIE)
    if number == signal.SIGTERM:
        assert process.returncode == 75
        assert said.strip() == "SIGTERM: training is complete, its export is not. Rerun the same command to export"
        assert not (tmp_path / ".export.partial").exists()
    else:
        assert (tmp_path / ".export.partial" / module.EXPORTER).is_file()  # so that the next start knows it


def until(reached) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_permissions_are_those_of_other_files(checkpoint, merges, tmp_path: Path, umask: int):
    checkpoint(10, FSDP)
    before = os.umask(umask)
    try:
        target = export_checkpoint(tmp_path / "checkpoints", tmp_path / "export")
    finally:
        os.umask(before)
    for path in (target, *target.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path


def test_shards_go_to_the_merger_of_the_engine_that_wrote_them(checkpoint, merges, tmp_path: Path):
    checkpoint(10, FSDP | {"huggingface/config.json": "{}"})
    export_checkpoint(tmp_path / "checkpoints", tmp_path / "fsdp")
    tied = json.dumps({"tie_word_embeddings": True})
    shards = {"ckpt_contents.json": megatron("megatron_dist_checkpoint"), "model/huggingface/config.json": tied}
    checkpoint(20, shards)
    export_checkpoint(tmp_path / "checkpoints", tmp_path / "megatron")
    (tmp_path / "config.yaml").write_text("actor_rollout_ref: {model: {trust_remote_code: true, path: a/b}}\n")
    export_checkpoint(tmp_path / "checkpoints", tmp_path / "fsdp", 10)
    export_checkpoint(tmp_path / "checkpoints", tmp_path / "again", 10)
    fsdp, dist, trusting = merges
    actor = tmp_path / "checkpoints" / "global_step_10" / "actor"
    assert fsdp[1:-1] == [
        "-m",
        "recipe.longrl.merger",
        str(os.getpid()),
        "merge",
        "--backend",
        "fsdp",
        "--local_dir",
        str(actor),
        "--target_dir",
    ]
    assert dist[dist.index("--backend") + 1] == "megatron"
    assert dist[-1] == "--tie-word-embedding"
    assert trusting[-1] == "--trust-remote-code"


@pytest.mark.parametrize(
    ("files", "where"),
    [
        ({"ckpt_contents.json": megatron("huggingface")}, "model/huggingface"),
        (
            {"ckpt_contents.json": megatron("megatron_dist_checkpoint", hf_model={"format": "huggingface"})},
            "model/huggingface",
        ),
        (FSDP, "huggingface"),
    ],
    ids=["Megatron's bridge", "shards and a model", "FSDP with hf_model"],
)
def test_a_model_in_the_checkpoint_is_copied(checkpoint, merges, tmp_path: Path, files, where):
    checkpoint(10, files | {f"{where}/{name}": text for name, text in WEIGHTS.items()})
    target = export_checkpoint(tmp_path / "checkpoints", tmp_path / "export")
    assert merges == []
    assert {name: (target / name).read_text() for name in WEIGHTS} == WEIGHTS


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"model.pt": ""}, "neither fsdp_config.json nor ckpt_contents.json"),
        ({"ckpt_contents.json": megatron("huggingface", peft=True)}, "LoRA adapter without the base model"),
        ({"ckpt_contents.json": megatron("megatron_dist_checkpoint")}, "without config and tokenizer.*save_contents"),
        (
            {"ckpt_contents.json": megatron("huggingface"), "model/huggingface/config.json": "{}"},
            "not a complete Hugging Face model: .*no complete model weights",
        ),
    ],
)
def test_what_cannot_be_exported_says_why(checkpoint, merges, tmp_path: Path, files, message):
    checkpoint(10, files)
    with pytest.raises(CheckpointError, match=message):
        export_checkpoint(tmp_path / "checkpoints", tmp_path / "export")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_the_command(checkpoint, tmp_path: Path):
    checkpoint(
        10, {"ckpt_contents.json": megatron("huggingface")} | {f"model/huggingface/{n}": t for n, t in WEIGHTS.items()}
    )
    command = [sys.executable, "-m", "recipe.longrl.export", "checkpoints", "export", "--step"]
    done = subprocess.run([*command, "11"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Complete steps: 10" in " ".join(done.stderr.split())
    done = subprocess.run([*command, "10"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"exported step 10 to {tmp_path / 'export'}" in done.stdout


def test_the_export_of_a_prepared_model_needs_no_preparing(tmp_path: Path):
    """Contract: verl's checkpoints hold the config that the trainer read, and its merger writes that one."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config

    chunk = {"chunk_size": 262144, "local_size": 8192, "original_max_position_embeddings": 262144}
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 64}
    shape = Qwen2Config(**sizes, num_attention_heads=4, num_key_value_heads=2, architectures=["Qwen2ForCausalLM"])
    shape.dual_chunk_attention_config = chunk
    AutoModelForCausalLM.from_config(shape).save_pretrained(tmp_path / "model")
    assert "dual_chunk_attention_config" in (tmp_path / "model" / "config.json").read_text()
    run = prepare_model(str(tmp_path / "model"), tmp_path / "run" / "model", length=4096)

    actor = tmp_path / "checkpoints" / "global_step_1" / "actor"
    trained = AutoModelForCausalLM.from_pretrained(run, dtype=torch.float32)
    AutoConfig.from_pretrained(run).save_pretrained(actor / "huggingface")  # as FSDPCheckpointManager does
    torch.save(trained.state_dict(), actor / "model_world_size_1_rank_0.pt")
    (actor / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": 1}))
    seal_checkpoint(actor.parent, world_size=1)

    exported = export_checkpoint(tmp_path / "checkpoints", tmp_path / "export")
    assert "dual_chunk_attention_config" not in json.loads((exported / "config.json").read_text())
    assert prepare_model(str(exported), tmp_path / "next" / "model", length=4096) == str(exported)
