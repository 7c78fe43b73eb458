"""Documents and multi-hop questions go in at one end, and two GRPO steps on both come out at the other; and a real vLLM
server answers a pipeline."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter

import pytest
import yaml
from support import fake_pipeline_llm, hotpot_rows, planted_fact_docs
from support.fake_openai_server import Server
from verl_longrl.data.jsonl import read_jsonl
from verl_longrl.data.schema import read_samples

from data_gen.llm import LLM, LLMOptions, RequestFailed
from data_gen.tokenizer import BUILTIN, load_tokenizer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PIPELINE = {
    "part_documents": 4,
    "ingest": {"buckets": [100, 950]},
    "chunk": {"max_tokens": 34},
    "embed": {"backend": "static"},
    "cluster": {"epsilon": 0.2, "min_clusters": 2},
    "select": {"max_pass_rate": 1.0},
    "answer": {"closed_book": 1, "with_document": 2, "max_tokens": 16},
    "generate": {"max_tokens": 24},
    "judge": {"max_tokens": 24},
    "export": {"max_prompt_tokens": 1000, "val_fraction": 0.2, "instructions": "cite and answer ."},
}


def pipeline(tmp_path, assets, url, model, *arguments, code=0):
    """Run the pipeline on small documents, with the demo model's tokenizer; its folder and what it printed."""
    folder = tmp_path / "documents"
    folder.mkdir()
    for seed in range(12):
        text, _ = planted_fact_docs.document(seed, topics=4, paragraphs=5, sentences=1)
        (folder / f"{seed}.txt").write_text(text)
    server = {"endpoints": [url], "model": model, "concurrency": 8}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({**PIPELINE, "tokenizer": str(assets / "model"), "servers": {"default": server}}))
    command = [sys.executable, "-m", "data_gen.grounding", "run", "--input", str(folder), "--config", str(config)]
    output = tmp_path / "out"
    done = subprocess.run([*command, "--output", str(output), *arguments], capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stdout + done.stderr
    return output, done.stdout + done.stderr


def questions(tmp_path, assets, url):
    """KeyChain data made of short multi-hop questions, which a server's answers filter; its folder."""
    hotpot_rows.write(tmp_path / "questions.json", 160, passages=4)
    output = tmp_path / "keychain"
    command = [sys.executable, "-m", "data_gen.keychain", "run", "--input", str(tmp_path / "questions.json")]
    command += ["--output", str(output), f"tokenizer={assets / 'model'}", "export.val_fraction=0.1"]
    command += ["compose.max_prompt_tokens=1024", "chains.hops=2", "chains.identifiers=hex8"]
    command += [f"servers.default.endpoints=[{url}]", "filter.server=default", "filter.samples=4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return output


def test_what_the_pipelines_export_trains(run, tmp_path):
    server = Server(fake_pipeline_llm.honest_reply)
    try:
        grounded, _ = pipeline(tmp_path, run.assets, server.url, "judge")
    finally:
        server.close()
    server = Server(hotpot_rows.answer)
    try:
        keychain = questions(tmp_path, run.assets, server.url)
        assert len(server.bodies) >= 160  # the filter has asked
    finally:
        server.close()
    rows = [sample for folder in (grounded, keychain) for sample in read_samples(folder / "train.parquet")]
    kinds = Counter(sample.data_source for sample in rows)
    assert kinds.keys() == {"longrlvr", "loongrl_keychain", "loongrl_qa"}
    assert kinds["longrlvr"] >= 4
    assert min(kinds["loongrl_keychain"], kinds["loongrl_qa"]) >= 10

    train, val = ([str(folder / f"{split}.parquet") for folder in (grounded, keychain)] for split in ("train", "val"))
    process = run.start_script(
        train,
        val,
        "method=loongrl",
        "trainer.n_gpus_per_node=1",
        "longrl.mix.balanced=true",
        "algorithm.filter_groups.enable=false",  # this model never answers, so every group would be dropped
        "trainer.total_training_steps=2",
        "trainer.save_freq=-1",
        "trainer.test_freq=-1",
        "trainer.val_before_train=false",
        "longrl.export=false",
    )
    assert run.finish(process) == 0, run.console[-3000:]
    assert [row["step"] for row in run.rows("train")] == [1, 2]
    rollouts = [row for step in (1, 2) for row in read_jsonl(run.output / "rollouts" / "train" / f"{step}.jsonl")]
    assert len(rollouts) == 2 * 4 * 4
    assert {row["task"] for row in rollouts} == kinds.keys()
    assert {row["status"] for row in rollouts} <= {"ok", "format_error", "truncated"}  # no scorer failed


def tiny_llama(folder):
    """A model with random weights and a real vocabulary, which JSON grammars need."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_tokenizer(BUILTIN)
    tokenizer.eos_token = "</s>"
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def vllm_server(tmp_path):
    """A real `vllm serve` on the CPU; its base URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "VLLM_TARGET_DEVICE": "cpu"}
    model = str(tiny_llama(tmp_path / "llama"))
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--port", str(port)]
    command += ["--served-model-name", "tiny", "--enforce-eager", "--dtype", "float32"]
    with (tmp_path / "vllm.log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 300
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=2)
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "vllm.log").read_text()[-3000:]
                assert time.monotonic() < deadline
                time.sleep(0.5)
        yield f"{url}/v1"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_real_vllm_server_answers(vllm_server, assets, tmp_path):
    """Its model says nothing sensible; what is tested is the transport: models, structured decoding, seeds, refusals,
    usage, and that every candidate asked for is accounted for."""
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    hello = [{"role": "user", "content": "Hello"}]

    async def talk():
        llm = LLM(LLMOptions(endpoints=(vllm_server,)))
        await llm.open()
        try:
            assert llm.model == "tiny"
            ask = {"max_tokens": 12, "temperature": 1.0}
            first, again, other = [await llm.chat(hello, seed=seed, **ask) for seed in (1, 1, 2)]
            assert first.text == again.text != other.text
            assert (first.completion_tokens, first.finish_reason) == (12, "length")
            assert first.prompt_tokens > 3
            found = await llm.chat(hello, seed=1, max_tokens=64, temperature=1.0, schema=schema)
            assert isinstance(json.loads(found.text)["ok"], bool)  # a random model, yet the schema holds
            with pytest.raises(RequestFailed, match=r"answered 400: .*maximum context length"):
                await llm.chat([{"role": "user", "content": "word " * 5000}], seed=1, **ask)
            return llm.totals()
        finally:
            await llm.close()

    totals = asyncio.run(talk())
    assert (totals["retries"], totals["failed"]) == (0, 1)
    output, printed = pipeline(tmp_path, assets, vllm_server, "tiny", "--until", "generate", code=1)
    assert "error: generate: no document is left (no_candidate 12)" in printed
    generated = [row for part in sorted((output / "generate").glob("*.jsonl")) for row in read_jsonl(part)]
    clusters = [row for part in sorted((output / "cluster").glob("*.jsonl")) for row in read_jsonl(part)]
    statuses = Counter()
    for row in generated:
        statuses.update({key: n for key, n in row["counts"].items() if key.startswith("candidates ")})
    assert sum(statuses.values()) == 3 * sum(len(row["chosen"]) for row in clusters)
    assert set(statuses) == {"candidates unreadable"}  # 24 tokens are no question, but every reply was counted
