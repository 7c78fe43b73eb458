"""Memory of the shipped combinations with the published shapes, and each way it can be too little."""

from types import SimpleNamespace

import psutil
import pytest
from transformers import LlamaConfig, PretrainedConfig, Qwen2Config
from verl_longrl.config import LongRLConfig
from verl_longrl.trainer.checkpoints import begin_checkpoint, seal_checkpoint

from recipe.longrl import memory, settings
from recipe.longrl.preflight import disk, memory_fit
from recipe.longrl.preflight.plan import TrainingPlan

pytestmark = pytest.mark.engine


def qwen(hidden: int, layers: int, heads: int, kv_heads: int, intermediate: int, **more) -> Qwen2Config:
    return Qwen2Config(
        **{"architectures": ["Qwen2ForCausalLM"], "vocab_size": 152064, "tie_word_embeddings": False, **more},
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=intermediate,
    )


LLAMA_8B = LlamaConfig(
    architectures=["LlamaForCausalLM"],
    vocab_size=128256,
    hidden_size=4096,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    intermediate_size=14336,
)
SHAPES: dict[str, PretrainedConfig] = {
    "qwen2.5-1.5b": qwen(1536, 28, 12, 2, 8960, vocab_size=151936, tie_word_embeddings=True),
    "qwen2.5-7b-1m": qwen(3584, 28, 28, 4, 18944),
    "qwen2.5-14b-1m": qwen(5120, 48, 40, 8, 13824),
    "qwen2.5-32b": qwen(5120, 64, 40, 8, 27648),
    "llama-3.1-8b": LLAMA_8B,
}


@pytest.fixture
def lines(composed, tmp_path, monkeypatch, free_disk):
    """lines(shape, overrides) -> name -> line of the memory checks, on GPUs of 80 GiB that are not here."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    free_disk(2**20)

    def run(
        shape: str, *overrides: str, dry_run: bool = True, plan: TrainingPlan | None = None
    ) -> dict[str, memory_fit.Check]:
        config = composed(f"longrl.output_dir={tmp_path}", *overrides)
        settings.resolve(config)
        longrl = LongRLConfig.from_dict(settings.plain(config.longrl))
        return {line.name: line for line in memory_fit.check_memory(config, longrl, SHAPES[shape], dry_run, plan)}

    return run


@pytest.mark.parametrize(
    ("shape", "hardware", "failing"),
    [
        ("qwen2.5-7b-1m", "8gpu", []),
        ("qwen2.5-14b-1m", "8gpu", []),
        ("llama-3.1-8b", "8gpu", []),
        ("qwen2.5-7b-1m", "16gpu", []),
        ("qwen2.5-14b-1m", "16gpu", []),
        ("llama-3.1-8b", "16gpu", []),
        ("qwen2.5-1.5b", "1gpu", []),
        ("qwen2.5-7b-1m", "1gpu", ["memory"]),
        ("qwen2.5-32b", "8gpu", ["memory", "generation"]),
    ],
)
def test_shipped_combinations(lines, shape: str, hardware: str, failing: list[str]):
    found = lines(shape, f"hardware={hardware}")
    details = "\n".join(f"{line.name} {line.status}: {line.detail}" for line in found.values())
    assert [line.name for line in found.values() if line.status == "FAIL"] == failing, details
    assert failing or all(line.status == "ok" for line in found.values() if line.name != "disk"), details


def test_a_larger_model_on_one_gpu_is_told_the_way(lines):
    assert "offload_policy=true" in lines("qwen2.5-7b-1m", "hardware=1gpu")["memory"].detail
    offloaded = "actor_rollout_ref.actor.fsdp_config.offload_policy=true"
    assert lines("qwen2.5-7b-1m", "hardware=1gpu", offloaded)["memory"].status == "ok"


def test_log_probabilities_with_entropy_are_the_larger_pass(lines):
    """The released script's 69,632 tokens per GPU: 6 bytes of 152,064 logits each are 59 GiB beside a 14B model."""
    overrides = ["actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=69632", "longrl.engine=upstream"]
    found = lines("qwen2.5-14b-1m", *overrides)["memory"]
    assert found.status == "FAIL"
    assert "lower rollout.log_prob_max_token_len_per_gpu" in found.detail
    chunked = "actor_rollout_ref.actor.entropy_from_logits_with_chunking=true"
    assert lines("qwen2.5-14b-1m", *overrides, chunked)["memory"].status == "ok"


def test_logits_at_responses_alone_fit_where_all_do_not(lines):
    """The same run with rows one by one: 1 longest response and a part in 69,632 tokens, not 69,632."""
    tokens = "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=69632"
    assert lines("qwen2.5-14b-1m", tokens, "longrl.engine=response_logits")["memory"].status == "ok"


def test_what_is_close_is_a_warning(lines):
    found = lines("qwen2.5-14b-1m", "actor_rollout_ref.rollout.gpu_memory_utilization=0.71")["generation"]
    assert found.status == "warn"
    assert "less than 4 GiB left" in found.detail
    assert "rollout.gpu_memory_utilization=0.69" in found.detail


def test_trainer_state_beside_vllm(lines):
    found = lines("qwen2.5-32b")["generation"]
    assert "trainer state 45.7" in found.detail
    offload = [f"actor_rollout_ref.actor.fsdp_config.{what}_offload=true" for what in ("optimizer", "param")]
    assert lines("qwen2.5-32b", *offload)["generation"].status == "ok"


def test_kv_cache_too_small_for_one_sequence(lines):
    found = lines("qwen2.5-14b-1m", "actor_rollout_ref.rollout.gpu_memory_utilization=0.1")["vLLM replica"]
    assert found.status == "FAIL"
    assert "69,632 tokens are needed" in found.detail
    assert "raise actor_rollout_ref.rollout.gpu_memory_utilization or tensor_model_parallel_size" in found.detail


def test_kv_cache_on_the_cpu_has_a_variable_of_its_own(check):
    status, detail = check("ray_kwargs.ray_init.runtime_env.env_vars.VLLM_CPU_KVCACHE_SPACE='0.001'")["vLLM replica"]
    assert status == "FAIL"
    assert "VLLM_CPU_KVCACHE_SPACE" in detail


@pytest.mark.parametrize(("have_gib", "status"), [(1000, "ok"), (94, "warn"), (64, "FAIL")])
def test_host_memory_of_what_is_offloaded(lines, monkeypatch, have_gib: int, status: str):
    """7B: 12 bytes of weights and moments per parameter, 85 GiB, on one node of 8 GPUs."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=have_gib * 2**30))
    offload = [f"actor_rollout_ref.actor.fsdp_config.{what}_offload=true" for what in ("optimizer", "param")]
    found = lines("qwen2.5-7b-1m", *offload, dry_run=False)["host memory"]
    assert found.status == status
    assert "needs 85 GiB of each node's memory" in found.detail
    assert f"this one has {have_gib} GiB" in found.detail
    assert lines("qwen2.5-7b-1m", *offload, dry_run=True)["host memory"].status == "ok"


def test_host_memory_for_reading_the_weights(lines, monkeypatch):
    """Rank 0 reads them in float32; with tied embeddings verl has every rank do so."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=2**40))
    assert "needs 28 GiB" in lines("qwen2.5-7b-1m", dry_run=False)["host memory"].detail
    assert "needs 46 GiB" in lines("qwen2.5-1.5b", dry_run=False)["host memory"].detail


def test_activations_that_do_not_fit(check):
    status, detail = check("actor_rollout_ref.actor.ppo_max_token_len_per_gpu=50000000")["memory"]
    assert status == "FAIL"
    assert "lower actor.ppo_max_token_len_per_gpu" in detail


@pytest.mark.parametrize(
    ("free_gib", "overrides", "status", "message"),
    [
        (1000, ["longrl.checkpoints_to_keep=2"], "ok", "a checkpoint takes 85"),
        (
            1000,
            ["longrl.checkpoints_to_keep=null"],
            "warn",
            "all checkpoints are kept. Fix: longrl.checkpoints_to_keep=2",
        ),
        (1000, [], "ok", "a checkpoint takes 85"),
        (300, [], "FAIL", "355 needed to keep 3 and write the next, and to export"),
        (260, ["longrl.checkpoints_to_keep=2"], "FAIL", "270 needed to keep 2 and write the next, and to export"),
        (260, ["longrl.checkpoints_to_keep=2", "longrl.export=false"], "ok", "a checkpoint takes 85"),
    ],
)
def test_disk(lines, monkeypatch, free_disk, free_gib: int, overrides: list[str], status: str, message: str):
    free_disk(free_gib)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=2**50))
    found = lines("qwen2.5-7b-1m", *overrides, dry_run=False)["disk"]
    assert found.status == status
    assert message in found.detail
    assert lines("qwen2.5-7b-1m", *overrides, dry_run=True)["disk"].status != "FAIL"  # another machine's disk


def test_checkpoints_that_exist_need_no_space(lines, free_disk, tmp_path):
    """A run that resumes has written those it keeps."""
    free_disk(100)
    for step in (10, 20):
        folder = tmp_path / "checkpoints" / f"global_step_{step}"
        begin_checkpoint(folder)
        seal_checkpoint(folder, world_size=8)
    assert lines("qwen2.5-7b-1m", "longrl.checkpoints_to_keep=2")["disk"].status == "ok"
    free_disk(50)
    assert lines("qwen2.5-7b-1m", "longrl.checkpoints_to_keep=2")["disk"].status == "warn"
    half = tmp_path / "checkpoints" / "global_step_30"
    begin_checkpoint(half)
    with (half / "shard").open("wb") as shard:  # which the start will delete
        shard.truncate(60 * 2**30)
    assert lines("qwen2.5-7b-1m", "longrl.checkpoints_to_keep=2")["disk"].status == "ok"


def test_a_finished_run_needs_space_only_for_the_export(lines, monkeypatch, free_disk, tmp_path):
    free_disk(10)
    begin_checkpoint(tmp_path / "checkpoints" / "global_step_20")
    seal_checkpoint(tmp_path / "checkpoints" / "global_step_20", world_size=8)
    done = TrainingPlan(rows=160, epoch=20, steps=20, written=2, kept=2)
    assert "14 needed to export" in lines("qwen2.5-7b-1m", plan=done)["disk"].detail
    assert lines("qwen2.5-7b-1m", "longrl.export=false", plan=done)["disk"].status == "ok"
    monkeypatch.setattr(disk.export, "is_up_to_date", lambda checkpoints, target: True)
    assert lines("qwen2.5-7b-1m", plan=done)["disk"].status == "ok"


def test_an_export_on_another_disk_has_its_own_line(lines, monkeypatch, free_disk, tmp_path):
    monkeypatch.setattr(disk, "_device", lambda folder: "shm" in str(folder))
    free_disk(10, in_shared_memory=500)
    found = lines("qwen2.5-7b-1m", "trainer.default_local_dir=/dev/shm/longrl-none/checkpoints")
    assert found["disk"].status == "warn"  # the last of the two
    assert f"an export 14.19 GiB; {tmp_path}/export has 10 GiB free, 14 needed to export" in found["disk"].detail


@pytest.mark.parametrize(
    ("engine", "with_logits"),
    [
        ("upstream", 22528),
        ("shared_prompt", 11264),  # 8 x 4,096 of each 32,768 + 8 x 4,096, dealt out evenly
        ("response_logits", 4096),  # the one longest response that a rank's 22,528 tokens have room for beside 32,768
    ],
)
def test_estimate_of_a_published_run(composed, engine: str, with_logits: int):
    """A 7B shape from its config alone: 7.6B parameters, KV cache of 14 KiB a token over 4 GPUs in bf16."""
    config = composed(f"longrl.engine={engine}")
    settings.resolve(config)
    found = memory.estimate(config, memory.ModelSizes.of(SHAPES["qwen2.5-7b-1m"]), gpu_gib=80, n_gpus=8)
    assert found.parameters == pytest.approx(7.6e9, rel=0.01)
    assert found.kv_bytes_per_token == 2 * 28 * 1 * 128 * 2  # tensor parallel 4: one of the four KV heads
    assert found.train_state == pytest.approx(found.parameters * 16 / 8 / 2**30)
    assert found.resident == pytest.approx(found.parameters * 12 / 8 / 2**30)
    assert found.kept == pytest.approx(22528 * 28 * 3584 * 2 / 2**30)  # a hidden state for each layer
    assert found.logits == pytest.approx(with_logits * 152064 * 2 / 2**30)  # bfloat16, gradient in place
    assert found.checkpoint == pytest.approx(found.parameters * 12 / 2**30)


def test_upstream_still_treats_logits_as_counted():
    """The update writes gradients in place unless it measures the entropy; the other pass always measures it."""
    import inspect

    from verl.trainer.ppo.v1.trainer_base import PPOTrainer
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

    outputs = inspect.getsource(FSDPEngineWithLMHead.prepare_model_outputs)
    assert "inplace_backward = True\n                    if calculate_entropy:\n" in outputs
    assert '"calculate_entropy": True' in inspect.getsource(PPOTrainer._compute_old_log_prob)
