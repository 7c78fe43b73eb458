"""The data, with the tokenizer and chat template that will be used: every row valid, every prompt short enough."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from verl_longrl.config import LongRLConfig

from recipe.longrl import settings
from recipe.longrl.preflight.check import Check, describe


def checks(config: DictConfig, longrl: LongRLConfig) -> Iterator[Check]:
    """One line per file, and one for the tokenizer or the user's scorers if they do not load."""
    from verl_longrl.rewards import load_scorers

    try:
        load_scorers(longrl.reward.scorers)
    except Exception as error:  # noqa: BLE001  the user's code
        yield Check("scorers", "FAIL", f"longrl.reward.scorers = {list(longrl.reward.scorers)}: {describe(error)}")
    tokenizer, problem = _tokenizer(config.actor_rollout_ref.model)
    if problem is not None:
        yield problem
    for split in ("train_files", "val_files"):
        files = config.data[split]
        for file in [files] if isinstance(files, str) else files:
            yield _file(f"data.{split}", file, config.data, tokenizer)


def longest_prompt(config: DictConfig) -> int | None:
    """Tokens of the longest prompt in the data; None where it or the tokenizer cannot be read, as `checks` says."""
    from verl_longrl.data.lengths import CACHE_DIR, prompt_lengths

    data, (tokenizer, _) = config.data, _tokenizer(config.actor_rollout_ref.model)
    files = [Path(file) for split in ("train_files", "val_files") for file in data[split]]
    if tokenizer is None or not all(file.is_file() for file in files):
        return None
    try:
        counts = [
            prompt_lengths(
                file,
                tokenizer,
                chat_template_kwargs=settings.plain(data.apply_chat_template_kwargs),
                cache_dir=data.get("cache_dir") or CACHE_DIR,
                prompt_key=data.prompt_key,
            )
            for file in files
        ]
    except Exception:  # noqa: BLE001  whatever a bad file or a chat template raises, `checks` meets it again
        return None
    return max((int(found.max()) for found in counts if len(found)), default=None)


def _tokenizer(model: DictConfig) -> tuple[Any, Check | None]:
    """The tokenizer as HFModelConfig makes it; None with the line that says why not."""
    from verl.utils.tokenizer import hf_tokenizer

    path = model.tokenizer_path or model.path
    fix = "give actor_rollout_ref.model.tokenizer_path, or put the tokenizer's files into the model's folder"
    if settings.is_url(path):
        return None, Check("tokenizer", "warn", f"{path} is fetched when the run starts; prompt lengths unchecked")
    try:
        tokenizer = hf_tokenizer(path, trust_remote_code=model.trust_remote_code)
    except Exception as error:  # noqa: BLE001  transformers raises what it likes
        return None, Check("tokenizer", "FAIL", f"cannot read a tokenizer from {path!r}: {describe(error)}; {fix}")
    if not tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys():  # transformers makes one of nothing
        return None, Check("tokenizer", "FAIL", f"the tokenizer of {path!r} has no vocabulary; {fix}")
    if model.custom_chat_template is not None:
        tokenizer.chat_template = model.custom_chat_template
    if not tokenizer.chat_template:
        fix = "give actor_rollout_ref.model.custom_chat_template, or the instruction-tuned model's tokenizer"
        return None, Check("tokenizer", "FAIL", f"the tokenizer of {path!r} has no chat template; {fix}")
    return tokenizer, None


def _file(name: str, file: str, data: DictConfig, tokenizer: Any) -> Check:
    from verl_longrl.data.lengths import CACHE_DIR
    from verl_longrl.data.validate import validate_file

    if settings.is_url(file):
        return Check(name, "warn", f"{file} is fetched, and validated, when the run starts")
    limit = None if data.filter_overlong_prompts or tokenizer is None else data.max_prompt_length
    try:
        report = validate_file(
            Path(file),
            tokenizer=tokenizer,
            chat_template_kwargs=settings.plain(data.apply_chat_template_kwargs),
            max_prompt_length=limit,
            max_errors=5,
            prompt_key=data.prompt_key,
            cache_dir=data.get("cache_dir") or CACHE_DIR,
        )
    except Exception as error:  # noqa: BLE001  a chat template is a program, and raises what it likes
        return Check(name, "FAIL", f"cannot count the prompts of {file}: {describe(error)}")
    return Check(name, "ok" if report.ok else "FAIL", "\n".join(report.lines()))
