"""Short multi-hop questions go in at one end, a server's answers filter them, and two GRPO steps on KeyChain prompts
come out at the other."""

import subprocess
import sys
from collections import Counter

import multihop
import pytest
from openai_server import Server
from verl_longrl.data.jsonl import read_jsonl
from verl_longrl.data.schema import read_samples

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture
def server():
    server = Server()
    server.honest = multihop.answer
    yield server
    server.close()


def test_the_exported_parquet_trains(run, tmp_path, server):
    multihop.write(tmp_path / "questions.json", 160, passages=4)
    command = [sys.executable, "-m", "data_gen.keychain", "run", "--input", str(tmp_path / "questions.json")]
    command += ["--output", str(tmp_path / "data"), f"tokenizer={run.assets / 'model'}", "export.val_fraction=0.1"]
    command += ["compose.max_prompt_tokens=1024", "chains.hops=2", "chains.identifiers=hex8"]
    command += [f"servers.default.endpoints=[{server.url}]", "filter.server=default", "filter.samples=4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(server.bodies) >= 160  # the filter has asked
    kinds = Counter(sample.data_source for sample in read_samples(tmp_path / "data" / "train.parquet"))
    assert min(kinds["loongrl_keychain"], kinds["loongrl_qa"]) >= 10

    process = run.start_script(
        tmp_path / "data" / "train.parquet",
        tmp_path / "data" / "val.parquet",
        "method=loongrl",
        "algorithm.filter_groups.enable=false",  # this model never answers, so every group would be dropped
        "trainer.total_training_steps=2",
        "trainer.save_freq=-1",
        "trainer.test_freq=-1",
        "trainer.val_before_train=false",
        "longrl.export=false",
    )
    assert run.finish(process) == 0, run.console[-3000:]
    assert [row["step"] for row in run.rows("train")] == [1, 2]
    rollouts = [row for step in (1, 2) for row in read_jsonl(run.output / "rollouts" / f"{step}.jsonl")]
    assert len(rollouts) == 2 * 4 * 4
    assert {row["status"] for row in rollouts} <= {"ok", "format_error", "truncated"}  # no scorer failed
