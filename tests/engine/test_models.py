"""Whole models on packed rows, compared with one sequence at a time: log-probs and every parameter's gradient."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from verl_longrl.engine.attention import attend
from verl_longrl.engine.layout import Group, Layout
from verl_longrl.engine.supported import MODELS, unsupported_model_reasons

pytestmark = pytest.mark.engine
SHAPE = {
    "vocab_size": 97,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXTRA_SHAPE = {
    **{name: {"head_dim": 16} for name in ("glm4", "qwen3")},
    "glm4_moe": {"head_dim": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "qwen2_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "qwen3_moe": {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "mistral": {"sliding_window": None},
    "seed_oss": {"head_dim": 16, "attention_dropout": 0.0, "residual_dropout": 0.0},
    "mixtral": {"num_local_experts": 4},
}
GROUPS = {
    "one response": [Group(11, (1,))],
    "ragged": [Group(17, (5, 1, 9))],
    "several groups": [Group(40, (9, 12, 30, 1, 2, 3, 4, 7)), Group(3, (5,)), Group(9, (4, 2))],
}


def attention(module, query, key, value, mask, scaling=None, shared_prompt=None, backend=None, **unused):
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    return attend(q, k, v, shared_prompt, scale, backend)[None], None


ALL_ATTENTION_FUNCTIONS.register("test_shared_prompt", attention)


def random_ids(layout):
    """Token ids of a packed row."""
    return torch.randint(3, 97, (layout.tokens,), generator=torch.Generator().manual_seed(0))


def unpacked_log_probs(model, ids, layout):
    """(N,): log-probs of the response tokens, with each response in a separate sequence."""
    model.config._attn_implementation = "sdpa"
    log_probs = []
    for prompt, response in (slices for slices in layout.attended_slices if len(slices) == 2):
        row = torch.cat([ids[prompt], ids[response]])
        logits = model(row[None], use_cache=False).logits[0, prompt.stop - prompt.start - 1 : -1]
        log_probs.append(logits.log_softmax(-1).gather(-1, ids[response, None])[:, 0])
    return torch.cat(log_probs)


def packed_log_probs(model, ids, layout, position_ids=None, implementation="test_shared_prompt", **more):
    """(N,): the same, from the packed row."""
    model.config._attn_implementation = implementation
    positions = layout.position_ids if position_ids is None else position_ids
    more = {"shared_prompt": layout, **more} if implementation == "test_shared_prompt" else {}
    out = model(
        ids[None], position_ids=positions[None], use_cache=False, logits_to_keep=layout.predictor_indices, **more
    )
    return out.logits[0].log_softmax(-1).gather(-1, ids[layout.response_indices, None])[:, 0]


def differences(model, layout, **options):
    """The largest difference of log-probs, and the largest relative difference of a parameter's gradient."""
    ids, results = random_ids(layout), []
    for compute in (unpacked_log_probs, lambda *args: packed_log_probs(*args, **options)):
        model.zero_grad()
        log_probs = compute(model, ids, layout)
        weights = torch.sin(torch.arange(len(log_probs), dtype=log_probs.dtype))
        (log_probs.exp() * weights).sum().backward()
        grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        results.append((log_probs.detach(), grads))
    (expected, expected_grads), (actual, actual_grads) = results
    assert expected_grads.keys() == actual_grads.keys()
    least = max(grad.norm() for grad in expected_grads.values()) * 1e-6
    relative = [(grad - actual_grads[name]).norm() / (grad.norm() + least) for name, grad in expected_grads.items()]
    return (expected - actual).abs().max().item(), max(relative).item()


def build_model(model_type, dtype=torch.float32):
    torch.manual_seed(0)
    config = CONFIG_MAPPING[model_type](**SHAPE, **EXTRA_SHAPE.get(model_type, {}))
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").to(dtype).train()


@pytest.fixture
def exact_qwen2(monkeypatch):
    """exact_qwen2(tied) -> a model in float64, including its norms, which transformers computes in float32."""

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    monkeypatch.setattr(Qwen2RMSNorm, "forward", forward)

    def make(tied=False):
        torch.manual_seed(0)
        return Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=tied)).double().train()

    return make


@pytest.mark.parametrize("backend", ["lse_merge", "lower_right"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
def test_equal_in_float64(exact_qwen2, groups, tied, backend):
    assert max(differences(exact_qwen2(tied), Layout(groups), backend=backend)) < 1e-12


def test_equal_with_gradient_checkpointing(exact_qwen2):
    model = exact_qwen2()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert max(differences(model, Layout(GROUPS["several groups"]))) < 1e-12


@pytest.mark.parametrize("model_type", sorted(MODELS))
def test_every_supported_model_type_is_exact(model_type):
    model = build_model(model_type)
    assert unsupported_model_reasons(model.config) == []
    log_probs, gradients = differences(model, Layout(GROUPS["several groups"]))
    assert log_probs < 5e-5
    assert gradients < 5e-5


@pytest.mark.parametrize("model_type", ["qwen3_next", "gemma2", "gpt_oss"])
def test_models_with_other_attention_are_unsupported(model_type):
    (reason, *_) = unsupported_model_reasons(CONFIG_MAPPING[model_type]())
    assert reason == f"model type {model_type} is not among those tested"


@pytest.mark.parametrize(
    ("model_type", "changed", "reason"),
    [
        ("mistral", {"sliding_window": 128}, "layers with a sliding window of 128 tokens"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 64}, "layers with a sliding window of 64 tokens"),
        ("qwen3", {"attention_dropout": 0.1}, "attention_dropout = 0.1"),
        ("qwen3_moe", {"output_router_logits": True}, "output_router_logits: the router's auxiliary loss"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            "rope_type dynamic depends on the longest sequence computed together",
        ),
    ],
)
def test_options_that_would_not_be_exact_are_named(model_type, changed, reason):
    (actual,) = unsupported_model_reasons(
        CONFIG_MAPPING[model_type](**SHAPE, **{**EXTRA_SHAPE.get(model_type, {}), **changed})
    )
    assert actual.startswith(reason)


def test_the_comparison_finds_wrong_variants(exact_qwen2):
    """Positions that continue from one response to the next; and transformers' own attention on the packed row, which
    takes every restart of positions for a new sequence."""
    model, layout = exact_qwen2(), Layout(GROUPS["several groups"])
    continued = torch.cat([torch.arange(prompt + sum(responses)) for prompt, responses in layout.groups])
    assert differences(model, layout, position_ids=continued)[0] > 1e-3
    assert differences(model, layout, implementation="sdpa")[0] > 1e-2
