"""The model, as verl's HFModelConfig reads it: long enough, and with heads that the parallel sizes divide."""

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recipe.longrl import hub_access
from recipe.longrl.memory.shapes import published_config
from recipe.longrl.model_folder import find_links_elsewhere
from recipe.longrl.parallelism import parallel
from recipe.longrl.preflight.check import Check, describe
from recipe.longrl.settings import is_url, plain


def read(name: str, model: DictConfig, dry_run: bool = False) -> tuple[Any, list[Check]]:
    """The Hugging Face config of a `model` node of the configuration (verl's keys: path, trust_remote_code,
    override_config, ...), or None with the line, under `name`, that says why not. Fetches no weights.

    dry_run: where the hub cannot be asked, a model's published figures are enough, with a warning.
    """
    if is_url(model.path):
        return None, [Check(name, "warn", f"{model.path} is fetched when the run starts; neither it nor sizes checked")]
    from verl.utils.config import omega_conf_to_dataclass

    path = str(model.get("hf_config_path") or model.path)
    offline = hub_access.is_offline(path)
    try:
        alone = {"load_tokenizer": False, "custom_chat_template": None, "use_shm": False}
        return omega_conf_to_dataclass(OmegaConf.create(plain(model) | alone)).hf_config, []
    except Exception as error:  # noqa: BLE001  transformers raises what it likes, hydra wraps it
        if offline:
            figures = published_config(path) if dry_run else None
            found = "cannot read its config" if figures is None else "checked by its published figures"
            return figures, [
                Check(name, "FAIL" if figures is None else "warn", f"{found}: {hub_access.explain_offline(path)}")
            ]
        cause = error.__cause__ or error
        return None, [Check(name, "FAIL", f"cannot read the model config of {model.path!r}: {describe(cause)}")]


def checks(config: DictConfig, shape: Any) -> Iterator[Check]:
    """Positions and heads of the model whose Hugging Face config is `shape`."""
    yield _context(config, shape.get_text_config())
    yield _heads(config, shape.get_text_config())
    path = config.actor_rollout_ref.model.path
    if config.trainer.nnodes > 1 and (elsewhere := find_links_elsewhere(path)) is not None:
        detail = f"{path} links to files in {elsewhere}, on another file system: every node must see both"
        fix = "If they do not, set HF_HOME to a shared folder, or give the model's folder on a shared file system"
        yield Check("model files", "warn", f"{detail}. {fix}; python -m recipe.longrl.preflight looks at every node")


def _context(config: DictConfig, text: Any) -> Check:
    data, path = config.data, config.actor_rollout_ref.model.path
    longest = data.max_prompt_length + data.max_response_length
    positions = getattr(text, "max_position_embeddings", None)
    if positions is None:
        return Check("context", "warn", f"the config of {path} names no max_position_embeddings; {longest} are needed")
    if longest > positions:
        return Check(
            "context",
            "FAIL",
            f"max_prompt_length {data.max_prompt_length} + max_response_length {data.max_response_length} = {longest} "
            f"exceeds the {positions} positions of {path}; shorten them or set longrl.rope={{rope_type: yarn, factor: "
            f"F, original_max_position_embeddings: {positions}}} with F >= {longest / positions:.2f}",
        )
    return Check("context", "ok", f"{longest} of {positions} positions of {path}")


def _heads(config: DictConfig, text: Any) -> Check:
    heads, kv_heads = text.num_attention_heads, getattr(text, "num_key_value_heads", None)
    if kv_heads is None:
        return Check(
            "heads",
            "FAIL",
            f"a {text.model_type} config has no num_key_value_heads, which verl's FSDP engine reads of every model; "
            "choose another architecture",
        )
    problems = []
    trainer = parallel(config)
    for what, key, size in (
        ("sequence parallelism", trainer.sequence_key, trainer.sequence),
        ("vLLM", "rollout.tensor_model_parallel_size", config.actor_rollout_ref.rollout.tensor_model_parallel_size),
    ):
        if heads % size:
            problems.append(f"{what} needs {key} = {size} to divide the {heads} attention heads")
        elif kv_heads % size and size % kv_heads:
            problems.append(
                f"{what} needs {key} = {size} to divide the {kv_heads} key-value heads, or to be a multiple of them"
            )
    if problems:
        fitting = [n for n in range(1, heads + 1) if not heads % n and (not kv_heads % n or not n % kv_heads)]
        return Check("heads", "FAIL", f"{'; '.join(problems)}. Sizes that fit: {', '.join(map(str, fitting))}")
    return Check("heads", "ok", f"{heads} attention heads, {kv_heads} key-value heads")
