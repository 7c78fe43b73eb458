"""Trainer and rollout engine can load a model of this config: the installed transformers and vLLM are asked.

transformers builds the model here and vLLM in a process of its own (`recipe.longrl.vllm_probe`), both on the meta
device, so without weights. Importing vLLM takes seconds, so that process runs while the other checks do.
"""

import copy
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from textwrap import shorten
from typing import Any, Self

from omegaconf import DictConfig

from recipe.longrl import worker_env
from recipe.longrl.model_folder import DUAL_CHUNK, config_file
from recipe.longrl.parallelism import uses_megatron
from recipe.longrl.preflight.check import Check, Status, describe

TIMEOUT_S = 300.0
THE_CONFIGS_FAULT = ("ValueError", "TypeError", "KeyError", "AttributeError", "OSError")
"""Exceptions that say what is wrong with a config. Others may only mean that there are no weights, or no GPU, here."""
Answer = dict[str, Any]


class Asked:
    """The question to vLLM whether it can load the run's model; a process, ended at the end of the `with` block."""

    def __init__(self, config: DictConfig, python: str | None = None) -> None:
        self.python, self.arguments = python or sys.executable, vllm_arguments(config)
        self.variables = worker_env.public_variables(config)

    def __enter__(self) -> Self:
        if self.arguments is not None and self.arguments not in _answers:
            self.said = tempfile.TemporaryFile("w+")
            command = [self.python, "-m", "recipe.longrl.vllm_probe", self.arguments]
            environment = {**os.environ, **self.variables}
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self.said, stderr=subprocess.STDOUT, env=environment
            )
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "process"):
            self.process.kill()
            self.process.wait()
            self.said.close()

    def answer(self) -> Answer | None:
        """The probe's answer (see `vllm_probe`). None: not asked. Raises subprocess.TimeoutExpired, RuntimeError."""
        if self.arguments is None:
            return None
        if self.arguments not in _answers:
            self.process.wait(TIMEOUT_S)
            self.said.seek(0)
            lines = self.said.read().splitlines()
            if self.process.returncode:
                raise RuntimeError(f"the probe ended with {self.process.returncode}: {' '.join(lines[-3:])}")
            _answers[self.arguments] = json.loads(lines[-1])
        return _answers[self.arguments]


_answers: dict[str, Answer] = {}
"""Arguments -> answer: the stages of a curriculum ask the same."""


def vllm_arguments(config: DictConfig) -> str | None:
    """vLLM's engine arguments for this run as JSON, with one device and no weights; None where it cannot be asked."""
    from recipe.longrl.inference.replicas import engine_arguments

    model = config.actor_rollout_ref.model
    file = config_file(model.path)
    if config.actor_rollout_ref.rollout.name != "vllm" or file is None:
        return None
    alone = {
        "model": str(file.parent) if not model.trust_remote_code else model.path,
        "tensor_parallel_size": 1,
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "enforce_eager": True,
    }
    wanted = {**engine_arguments(config), **alone}
    return json.dumps({key: value for key, value in wanted.items() if key not in ("tokenizer", "compilation_config")})


def rollout(config: DictConfig, asked: Asked) -> Check:
    """Whether vLLM can load the model."""
    name, engine = "rollout engine", config.actor_rollout_ref.rollout.name
    try:
        answer = asked.answer()
    except subprocess.TimeoutExpired:
        return Check(name, "warn", f"vLLM did not say within {TIMEOUT_S:.0f} s whether it can load the model")
    if answer is None:
        return Check(name, "warn", f"{engine} is not asked whether it can load {config.actor_rollout_ref.model.path}")
    version = f"vLLM {answer['vllm']}"
    where = "" if answer["platform"] == config.trainer.device else f" (asked on its {answer['platform']} platform)"
    if answer["quantization"] is not None and config.actor_rollout_ref.rollout.quantization is None:
        return Check(name, "FAIL", _quantised(answer["quantization"]))
    if (error := answer["error"]) is None:
        return Check(name, "ok", f"{version} builds the model of this config{where}")
    words = f"{error['type']}: {shorten(error['message'], width=300, placeholder=' ...')}"
    if error["type"] in THE_CONFIGS_FAULT:
        path = config.actor_rollout_ref.model.path
        fix = f"correct config.json of {path}, or the setting that is named, or train another model"
        return Check(name, "FAIL", f"{version} refuses the model{where}: {words}. Fix: {fix}")
    return Check(name, "warn", f"{version} cannot be asked without weights or without a GPU{where}: {words}")


def trainer(config: DictConfig, shape: Any) -> Iterator[Check]:
    """Whether the trainer can build, and train, the model whose Hugging Face config is `shape`."""
    problem = _untrainable(config, shape) or (None if uses_megatron(config) else _unbuildable(config, shape))
    if problem is None:
        yield Check("trainer model", "ok", f"{'/'.join(shape.architectures)}, not quantised")
    else:
        yield problem


def _untrainable(config: DictConfig, shape: Any) -> Check | None:
    name, text, model = "trainer model", shape.get_text_config(), config.actor_rollout_ref.model
    at_hand = config_file(model.hf_config_path or model.path) is not None  # else it is prepared when it is fetched
    for part in (shape, text):
        for key in ("quantization_config", "compression_config"):
            if settings := getattr(part, key, None):
                settings = settings if isinstance(settings, dict) else settings.to_dict()
                return Check(name, "FAIL", _quantised(settings.get("quant_method", key)))
        if at_hand and getattr(part, DUAL_CHUNK, None) is not None:
            detail = f"the config has {DUAL_CHUNK}, and the trainer computes plain causal attention alone"
            return Check(name, "FAIL", f"{detail}; leave it out of model.hf_config_path and model.override_config")
    return _rope(text)


def _quantised(method: str) -> str:
    return (
        f"the checkpoint is quantised ({method}), and quantised weights cannot be trained. Fix: give the model that it "
        "was made from, in bfloat16; to quantise rollouts alone: actor_rollout_ref.rollout.quantization=fp8"
    )


def _rope(text: Any) -> Check | None:
    from transformers import __version__
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    parameters = getattr(text, "rope_parameters", None) or {}
    by_layer = [value for value in parameters.values() if isinstance(value, dict)]
    for found in by_layer or [parameters]:
        kind = found.get("rope_type", "default")
        if kind != "default" and kind not in ROPE_INIT_FUNCTIONS:
            known = ", ".join(sorted({"default", *ROPE_INIT_FUNCTIONS}))
            detail = f"rope_type = {kind!r} is unknown to transformers {__version__}, which trains; known: {known}"
            return Check("trainer model", "FAIL", f"{detail}. Fix: longrl.rope, or rope_parameters in config.json")
    return None


def _unbuildable(config: DictConfig, shape: Any) -> Check | None:
    import torch
    from transformers import __version__
    from verl.utils.model import get_hf_auto_model_class

    try:
        own = copy.deepcopy(shape)
        trust = config.actor_rollout_ref.model.trust_remote_code
        make = functools.partial(get_hf_auto_model_class(own).from_config, own, attn_implementation="eager")
        with torch.device("meta"):
            make(trust_remote_code=trust)
    except Exception as error:  # noqa: BLE001  a model's class raises what it likes
        faults = (ValueError, TypeError, KeyError, AttributeError, OSError, ImportError)
        status: Status = "FAIL" if isinstance(error, faults) else "warn"
        detail = f"transformers {__version__}, which trains, cannot build the model of this config: {describe(error)}"
        return Check("trainer model", status, f"{detail}. Fix: correct config.json, or train another model")
    return None
