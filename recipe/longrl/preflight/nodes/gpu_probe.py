"""Try torch and the run's attention on one GPU: `python -P gpu_probe.py ARGUMENTS`, in a process of its own.

A process that has used CUDA keeps a context on the GPU and must not fork; a broken installation can end it, and a
broken driver can hang it. So neither the driver nor a worker does this itself. The report is printed as JSON.
"""

import importlib
import json
import sys
from typing import Any

MIN_CAPABILITY = (8, 0)
"""An A100's, with which bfloat16 and FlashAttention begin."""


def probe_gpu(attention: str, dtype: str) -> dict[str, Any]:
    """The report on the first visible GPU.

    Args:
        attention: "shared_prompt" (LongRL's own), or an `attn_implementation` of transformers, of which flash-attn's
            is tried.
        dtype: the trainer's, a name of torch.

    Returns:
        cuda: the version that torch is built for. flash_attn: why it cannot be imported. no_gpu: why torch sees none.
        problem: why the GPU cannot train. facts: what was tried, in words.
    """
    report: dict[str, Any] = {"flash_attn": _import_problem("flash_attn_2_cuda", "flash_attn")}
    import torch

    report["cuda"] = torch.version.cuda
    try:
        torch.cuda.init()
        capability = torch.cuda.get_device_capability(0)
    except (RuntimeError, AssertionError) as error:
        # A torch that is built without CUDA raises AssertionError.
        return {**report, "no_gpu": _first_line(error)}
    has, needs = (".".join(map(str, version)) for version in (capability, MIN_CAPABILITY))
    report["facts"] = [f"compute capability {has}"]
    if capability < MIN_CAPABILITY:
        detail = f"compute capability {has}: bfloat16 and FlashAttention need {needs} (A100 or later)"
        return {**report, "problem": f"{detail}. Fix: leave this machine out of the run"}
    try:
        if attention == "shared_prompt":
            from verl_longrl.engine.attention_check import try_attention

            backend, forward, backward, problem = try_attention("cuda", dtype=getattr(torch, dtype))
            report["problem"] = problem and f"attention, tried on one GPU: {problem}"
            errors = f"relative errors of {forward:.2g} forward and {backward:.2g} backward"
            report["facts"].append(f"attention ({backend}) tried on one GPU with {errors}")
        elif attention == "flash_attention_2" and report["flash_attn"] is None:
            from flash_attn import flash_attn_func

            q, k, v = (
                torch.randn(1, 256, heads, 128, device="cuda", dtype=getattr(torch, dtype)) for heads in (4, 2, 2)
            )
            flash_attn_func(q.requires_grad_(), k, v, causal=True).sum().backward()
            torch.cuda.synchronize()
            report["facts"].append("flash-attn tried on one GPU")
    except Exception as error:  # noqa: BLE001  a kernel that does not run raises anything
        report["problem"] = f"attention, tried on one GPU: {_first_line(error)}"
    return report


def _import_problem(*modules: str) -> str | None:
    """Why one of the modules cannot be imported: "absent", or the error, as of a build for another torch."""
    for name in modules:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            return "absent" if error.name == name else _first_line(error)
        except Exception as error:  # noqa: BLE001  its code raises anything
            return _first_line(error)
    return None


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


if __name__ == "__main__":
    print("\n" + json.dumps(probe_gpu(**json.loads(sys.argv[1]))), flush=True)
