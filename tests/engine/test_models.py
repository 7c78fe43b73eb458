"""Whole models on packed rows against one sequence at a time: log-probs and every parameter's gradient."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from verl_longrl.engine.attention import attend
from verl_longrl.engine.layout import Group, Layout
from verl_longrl.engine.supported import MODELS, model_problems

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
MORE = {
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


def attention(module, query, key, value, mask, scaling=None, shared_prompt=None, way=None, **unused):
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    return attend(q, k, v, shared_prompt, scale, way)[None], None


ALL_ATTENTION_FUNCTIONS.register("test_shared_prompt", attention)


def drawn(layout):
    """Token ids of a packed row."""
    return torch.randint(3, 97, (layout.tokens,), generator=torch.Generator().manual_seed(0))


def one_by_one(model, ids, layout):
    """(N,) log-probs of the response tokens, each response a sequence of its own."""
    model.config._attn_implementation = "sdpa"
    found = []
    for prompt, own in (places for places in layout.looked_at if len(places) == 2):
        row = torch.cat([ids[prompt], ids[own]])
        logits = model(row[None], use_cache=False).logits[0, prompt.stop - prompt.start - 1 : -1]
        found.append(logits.log_softmax(-1).gather(-1, ids[own, None])[:, 0])
    return torch.cat(found)


def packed(model, ids, layout, position_ids=None, implementation="test_shared_prompt", **more):
    """The same of the packed row."""
    model.config._attn_implementation = implementation
    positions = layout.position_ids if position_ids is None else position_ids
    more = {"shared_prompt": layout, **more} if implementation == "test_shared_prompt" else {}
    out = model(ids[None], position_ids=positions[None], use_cache=False, logits_to_keep=layout.predictors, **more)
    return out.logits[0].log_softmax(-1).gather(-1, ids[layout.responses, None])[:, 0]


def differences(model, layout, **how):
    """Largest difference of log-probs; largest relative difference of a parameter's gradient."""
    ids, found = drawn(layout), []
    for compute in (one_by_one, lambda *args: packed(*args, **how)):
        model.zero_grad()
        log_probs = compute(model, ids, layout)
        weights = torch.sin(torch.arange(len(log_probs), dtype=log_probs.dtype))
        (log_probs.exp() * weights).sum().backward()
        grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        found.append((log_probs.detach(), grads))
    (wanted, wanted_grads), (got, got_grads) = found
    assert wanted_grads.keys() == got_grads.keys()
    least = max(grad.norm() for grad in wanted_grads.values()) * 1e-6
    relative = [(grad - got_grads[name]).norm() / (grad.norm() + least) for name, grad in wanted_grads.items()]
    return (wanted - got).abs().max().item(), max(relative).item()


def built(model_type, dtype=torch.float32):
    torch.manual_seed(0)
    config = CONFIG_MAPPING[model_type](**SHAPE, **MORE.get(model_type, {}))
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").to(dtype).train()


@pytest.fixture
def exact_qwen2(monkeypatch):
    """exact_qwen2(tied) -> a model in float64, norms included, which transformers computes in float32."""

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    monkeypatch.setattr(Qwen2RMSNorm, "forward", forward)

    def make(tied=False):
        torch.manual_seed(0)
        return Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=tied)).double().train()

    return make


@pytest.mark.parametrize("way", ["merge", "sdpa"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
def test_equal_in_float64(exact_qwen2, groups, tied, way):
    assert max(differences(exact_qwen2(tied), Layout(groups), way=way)) < 1e-12


def test_equal_with_gradient_checkpointing(exact_qwen2):
    model = exact_qwen2()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert max(differences(model, Layout(GROUPS["several groups"]))) < 1e-12


@pytest.mark.parametrize("model_type", sorted(MODELS))
def test_every_model_type_that_is_called_exact(model_type):
    model = built(model_type)
    assert model_problems(model.config) == []
    log_probs, gradients = differences(model, Layout(GROUPS["several groups"]))
    assert log_probs < 5e-5
    assert gradients < 5e-5


@pytest.mark.parametrize("model_type", ["qwen3_next", "gemma2", "gpt_oss"])
def test_models_with_other_attention_are_refused(model_type):
    (problem, *_) = model_problems(CONFIG_MAPPING[model_type]())
    assert problem == f"model type {model_type} is not among those tested"


@pytest.mark.parametrize(
    ("model_type", "changed", "problem"),
    [
        ("mistral", {"sliding_window": 128}, "layers with a sliding window of 128 tokens"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 64}, "layers with a sliding window of 64 tokens"),
        ("qwen3", {"attention_dropout": 0.1}, "attention_dropout = 0.1"),
        ("qwen3_moe", {"output_router_logits": True}, "output_router_logits: the router's auxiliary loss"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            "rope_type dynamic looks at the longest sequence computed together",
        ),
    ],
)
def test_what_would_not_be_exact_is_named(model_type, changed, problem):
    (found,) = model_problems(CONFIG_MAPPING[model_type](**SHAPE, **{**MORE.get(model_type, {}), **changed}))
    assert found.startswith(problem)


def test_the_comparison_finds_wrong_variants(exact_qwen2):
    """Positions that go on from response to response; transformers' own attention on the packed row, which takes every
    restart of positions for a new sequence."""
    model, layout = exact_qwen2(), Layout(GROUPS["several groups"])
    starts = torch.cat([torch.arange(prompt + sum(responses)) for prompt, responses in layout.groups])
    assert differences(model, layout, position_ids=starts)[0] > 1e-3
    assert differences(model, layout, implementation="sdpa")[0] > 1e-2
