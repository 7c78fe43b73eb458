"""Whether what is installed here trains on the GPUs that are here: driver, compiler, attention, flash-attn.

All of it is found out in seconds by trying, in a process of its own (`probe.py`). Without this look a machine that
lacks one of them fails minutes into the start, with a message about something else.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from recipe.longrl import flash_attention
from recipe.longrl.preflight import cluster, nvidia, timed_command
from recipe.longrl.preflight.check import Check, Status
from recipe.longrl.preflight.nodes import probe
from recipe.longrl.preflight.nodes.finding import Finding
from recipe.longrl.preflight.nodes.question import Driver, Node, Question

NAME = "GPU software"
PROBE_TIMEOUT_S, COMPILE_TIMEOUT_S = 60.0, 20.0
LEAST_CAPABILITY = (8, 0)  # bfloat16, FlashAttention
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
SOURCE = "#include <Python.h>\nlong version(void) { return PY_VERSION_HEX; }\n"


def here(config: DictConfig, dry_run: bool) -> Iterator[Check]:
    """This machine's lines, where it is the one that trains on GPUs."""
    if dry_run or config.trainer.device != "cuda" or not cluster.starts_here(config):
        return
    gpus = cluster.own_node(config).gpus
    node = Node("here", socket.gethostname(), "127.0.0.1", gpus, gpus, os.cpu_count() or 1, 0)
    for finding in look(Question(config, node, Driver("", ""))):
        detail = finding.detail
        for value in finding.values:
            detail = detail.replace("{}", f"{value:.2g}", 1)
        yield Check(finding.name, finding.status, detail)


def look(question: Question) -> Iterator[Finding]:
    """One finding where all is well, else one for each problem; none on a node without GPUs."""
    node, config = question.node, question.config
    if config.trainer.device != "cuda":
        return
    try:
        answer = nvidia.ask()
    except nvidia.NoAnswer:
        answer = nvidia.Answer([], [])  # the look at the GPUs says so
    if not node.gpus and not answer.cards:
        return
    problems: list[tuple[Status, str]] = [("FAIL", problem)] if (problem := compiler_problem()) else []
    facts = ["a C compiler with Python's headers"]
    values: tuple[float, ...] = ()
    if node.gpus and node.free_gpus < 1:
        facts.append("attention not tried: other jobs have all GPUs at the moment")
    else:
        found = _probed(config, _environment(answer.cards))
        problems += _problems(config, found, answer)
        more, values = _facts(found, answer)
        facts = [*more, *facts]
    for status, problem in problems:
        yield Finding(NAME, status, problem)
    if not problems:
        yield Finding(NAME, "ok", ", ".join(facts), values)


def compiler_problem() -> str | None:
    """Why nothing can be compiled here against Python's headers, as Triton does at its first kernel; None if it can.

    The compiler and its options are Triton's (triton/runtime/build.py): CC, else gcc, else clang.
    """
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    wants = "Triton and torch.compile compile at first use"
    fix = f"Fix: apt-get install gcc libc6-dev python3.{sys.version_info.minor}-dev (or as the distribution calls them)"
    if compiler is None:
        return f"no C compiler (gcc or clang on the PATH, or CC), and {wants}. {fix}"
    scheme = sysconfig.get_default_scheme()
    headers = sysconfig.get_paths("posix_prefix" if scheme == "posix_local" else scheme)["include"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "version.c")
        source.write_text(SOURCE)
        command = [compiler, str(source), "-shared", "-fPIC", "-o", str(source.with_suffix(".so")), f"-I{headers}"]
        try:
            timed_command.output(command, COMPILE_TIMEOUT_S)
        except subprocess.CalledProcessError as error:
            lines = error.stderr.splitlines()
            said = next((line for line in lines if "error" in line), f"status {error.returncode}")
            return f"{compiler} cannot compile against Python's headers in {headers}: {said.strip()}; {wants}. {fix}"
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"the C compiler {compiler} does not run: {error}; {wants}. {fix}"
    return None


def _probed(config: DictConfig, environment: dict[str, str]) -> dict[str, Any]:
    """What the probe found; if it ended otherwise, a `problem`."""
    precision = (config.actor_rollout_ref.actor.fsdp_config.get("mixed_precision") or {}).get("param_dtype", "bf16")
    asked = {"attention": flash_attention.actor_attention(config), "dtype": DTYPES.get(precision, precision)}
    command = [sys.executable, "-P", probe.__file__, json.dumps(asked)]
    try:
        printed = timed_command.output(command, PROBE_TIMEOUT_S, environment)
        found: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
        return found
    except subprocess.TimeoutExpired:
        problem = f"torch did not answer on a GPU within {PROBE_TIMEOUT_S:.0f} s"
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"status {error.returncode}"]
        problem = f"torch broke on a GPU: {lines[-1]}"
    except (ValueError, IndexError) as error:
        problem = f"torch's answer cannot be read: {error}"
    return {"problem": problem}


def _environment(cards: list[nvidia.Card]) -> dict[str, str]:
    """In which the probe sees a GPU: those the user chose, else the one with least in use. Ray hides all of them from
    a process that was given none."""
    environment = dict(os.environ)
    if environment.get("CUDA_VISIBLE_DEVICES"):
        return environment
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    named = [card for card in cards if card.id.startswith("GPU-")]
    if named:
        environment["CUDA_VISIBLE_DEVICES"] = min(named, key=lambda card: card.used or 0.0).id
    return environment


def _problems(config: DictConfig, found: dict[str, Any], answer: nvidia.Answer) -> Iterator[tuple[Status, str]]:
    if (problem := found.get("problem")) is not None:
        yield "FAIL", _no_gpu(problem, answer)
    capability = tuple(found.get("capability", LEAST_CAPABILITY))
    if capability < LEAST_CAPABILITY:
        least = f"bfloat16 and FlashAttention need {_dotted(LEAST_CAPABILITY)} (A100 and later)"
        yield "FAIL", f"compute capability {_dotted(capability)}; {least}. Fix: leave this machine out of the run"
    elif found.get("trial"):
        yield "FAIL", f"attention tried on one GPU: {found['trial']}"
    yield from flash_attention.check_node(config, found.get("flash_attn"))


def _facts(found: dict[str, Any], answer: nvidia.Answer) -> tuple[list[str], tuple[float, ...]]:
    """In words, and the numbers in them."""
    facts = [
        f"driver {', '.join(answer.drivers) or 'unknown'} for CUDA {found.get('cuda')}",
        f"compute capability {_dotted(tuple(found.get('capability', ())))}",
    ]
    if "way" not in found:
        return facts, ()
    facts.append(f"attention ({found['way']}) tried on one GPU: largest error {{}} forward and {{}} backward")
    return facts, (found["forward"], found["backward"])


def _no_gpu(problem: str, answer: nvidia.Answer) -> str:
    """Why torch has no GPU: that it is built without CUDA or the driver is too old, where that is so."""
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return "the installed torch is built without CUDA. Fix: bash scripts/setup.sh gpu"
    old = nvidia.driver_problem(answer, torch.version.cuda)
    return f"torch sees no GPU: {old}" if old else f"torch sees no GPU: {problem}. Fix: see `nvidia-smi` and `dmesg`"


def _dotted(capability: tuple[int, ...]) -> str:
    return ".".join(map(str, capability))
