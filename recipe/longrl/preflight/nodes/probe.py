"""What torch and its kernels do on one GPU, in a process of its own: `python -P probe.py QUESTION`, as JSON.

A process that asks CUDA anything keeps a context on the GPU and cannot be forked; a broken installation ends it, and a
broken driver hangs it. So this is none of those that go on to train.
"""

import importlib
import json
import sys
from typing import Any


def answer(attention: str, dtype: str) -> dict[str, Any]:
    """What was found: `cuda`, the version that torch is built for; `flash_attn`, why flash-attn cannot be imported;
    `problem`, why there is no GPU; `capability` of the first; and of the attention tried there, `way`, errors against a
    higher precision as shares of the largest value (`forward`, `backward`) and `trial`, its problem.

    attention: "shared_prompt" (the engine's own), or an `attn_implementation` of transformers, of which flash-attn's is
    tried. dtype: of torch, that the trainer computes in.
    """
    found: dict[str, Any] = {"flash_attn": _import_problem("flash_attn_2_cuda", "flash_attn")}
    import torch

    found["cuda"] = torch.version.cuda
    try:
        torch.cuda.init()
        found["capability"] = list(torch.cuda.get_device_capability(0))
    except (RuntimeError, AssertionError) as error:  # torch's own, and of a torch without CUDA
        return {**found, "problem": _line(error)}
    try:
        if attention == "shared_prompt":
            from verl_longrl.engine.attention_check import try_attention

            result = try_attention("cuda", dtype=getattr(torch, dtype))
            found |= {"way": result.backend, "forward": result.forward_error, "backward": result.backward_error}
            found["trial"] = result.problem
        elif attention == "flash_attention_2" and found["flash_attn"] is None:
            found |= _try_flash_attn(getattr(torch, dtype))
    except Exception as error:  # noqa: BLE001  a kernel that does not run raises what it likes
        found["trial"] = _line(error)
    return found


def _import_problem(*modules: str) -> str | None:
    """Why one of the modules cannot be imported: "absent", or what its import said."""
    for name in modules:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            return "absent" if error.name == name else _line(error)
        except Exception as error:  # noqa: BLE001  ImportError for another torch's ABI, or what its code raises
            return _line(error)
    return None


def _try_flash_attn(dtype: Any) -> dict[str, Any]:
    """flash-attn's kernel, with fewer key heads than query heads, against torch's attention in float32."""
    import torch
    from flash_attn import flash_attn_func

    torch.manual_seed(0)
    shapes = [(1, 256, heads, 128) for heads in (4, 2, 2)]
    inputs = [torch.randn(shape, device="cuda", dtype=dtype).requires_grad_() for shape in shapes]
    out = flash_attn_func(*inputs, causal=True)
    exact = [x.detach().float().requires_grad_() for x in inputs]
    q, k, v = (x.transpose(1, 2) for x in exact)
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)
    gradient = torch.randn_like(wanted)
    grads = torch.autograd.grad(out, inputs, gradient.to(dtype))
    exact_grads = torch.autograd.grad(wanted, exact, gradient)
    pairs = [(out, wanted), *zip(grads, exact_grads, strict=True)]
    forward, *backward = [((a.float() - b).abs().max() / b.abs().max()).item() for a, b in pairs]
    found = {"way": "flash-attn", "forward": forward, "backward": max(backward), "trial": None}
    if max(forward, *backward) > 0.05:  # bfloat16 keeps 8 bits
        found["trial"] = f"flash-attn is off by {max(forward, *backward):.2g} of the largest value"
    return found


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


if __name__ == "__main__":
    print("\n" + json.dumps(answer(**json.loads(sys.argv[1]))), flush=True)
