"""One RoPE scaling for trainer and vLLM: a model folder whose config.json says it, the rest linked.

Both engines read the folder they are given, so they cannot disagree; handing the setting to each engine in its own way
(upstream's `override_config` and vLLM's `hf_overrides`) can, and then rollout and trainer log-probabilities drift apart
without an error. Checkpoints and the export carry the setting along.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def with_rope(model: str, rope: Mapping[str, Any], target: Path) -> Path:
    """Make `target` a folder like `model` (a folder, or a name on the Hugging Face hub) with `rope` in its config.

    `max_position_embeddings` becomes factor x original_max_position_embeddings. Idempotent.
    """
    source = Path(model)
    if not source.is_dir():
        from huggingface_hub import snapshot_download

        source = Path(snapshot_download(model))
    config = json.loads((source / "config.json").read_text())
    parameters = {"rope_theta": config.get("rope_theta"), **(config.get("rope_parameters") or {}), **rope}
    config["rope_parameters"] = {key: value for key, value in parameters.items() if value is not None}
    config.pop("rope_scaling", None)
    config["max_position_embeddings"] = int(rope["factor"] * rope["original_max_position_embeddings"])
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        link = target / file.name
        if file.name != "config.json" and not link.exists():
            link.symlink_to(file.resolve())
    aside = target / f".config.json.{os.getpid()}"
    aside.write_text(json.dumps(config, indent=2) + "\n")
    os.replace(aside, target / "config.json")
    return target
