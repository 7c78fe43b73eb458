"""Check every row of the data, with the run's tokenizer and chat template, and the user's scorers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from verl_longrl.config import LongRLConfig

from recipe.longrl import hub_access, settings
from recipe.longrl.memory.shapes import published_config
from recipe.longrl.preflight.check import Check, Status, describe


def check_data(config: DictConfig, longrl: LongRLConfig, rows: dict[str, int], dry_run: bool) -> Iterator[Check]:
    """A line for each file and for the user's scorers, and one for a tokenizer that cannot be used.

    rows: set to the rows of each split that the run will have, where they can be counted.
    """
    if longrl.reward.scorers:
        yield _check_scorers(config, longrl)
    tokenizer, problem = load_tokenizer(config.actor_rollout_ref.model, dry_run)
    if problem is not None:
        yield problem
    for split in ("train_files", "val_files"):
        counts = []
        for file in _list_files(config, split):
            line, count = _check_file(f"data.{split}", file, config.data, tokenizer)
            yield line
            counts.append(count)
        known = [count for count in counts if count is not None]
        if len(known) == len(counts):
            most = config.data.get(f"{split.removesuffix('_files')}_max_samples", -1)
            rows[split] = min(sum(known), most) if most > 0 else sum(known)
            if not sum(known):
                limit = f"data.max_prompt_length = {config.data.max_prompt_length}"
                yield Check(
                    f"data.{split}", "FAIL", f"{limit}: no prompt is so short. Fix: raise it, or shorten documents"
                )


def _list_files(config: DictConfig, split: str) -> list[str]:
    files = config.data[split]
    return [files] if isinstance(files, str) else list(files)


def _check_scorers(config: DictConfig, longrl: LongRLConfig) -> Check:
    """Whether the user's scorers load, score an empty response, and are used by a row of the data."""
    from verl_longrl.data.scorer_check import try_scorers

    files = [file for split in ("train_files", "val_files") for file in _list_files(config, split)]
    try:
        trial = try_scorers(longrl.reward, [file for file in files if Path(file).is_file()])
    except ImportError as error:
        return Check("scorers", "FAIL", f"longrl.reward.scorers = {list(longrl.reward.scorers)}: {error}")
    if trial.problems:
        return Check("scorers", "FAIL", "\n".join(trial.problems))
    if trial.unused:
        return Check("scorers", "warn", f"no row has these as its data_source: {', '.join(trial.unused)}")
    return Check("scorers", "ok", f"each scored an empty response: {', '.join(trial.tried)}")


def count_longest_prompt(config: DictConfig) -> int | None:
    """Tokens of the longest prompt in the data; None where data or tokenizer cannot be read, which `check_data`
    reports."""
    from verl_longrl.data.prompt_lengths import CACHE_DIR, prompt_lengths

    data, (tokenizer, _) = config.data, load_tokenizer(config.actor_rollout_ref.model, dry_run=True)
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
    except Exception:  # noqa: BLE001  a bad file or chat template raises anything, and `check_data` reports it
        return None
    return max((int(lengths.max()) for lengths in counts if len(lengths)), default=None)


def load_tokenizer(model: DictConfig, dry_run: bool) -> tuple[Any, Check | None]:
    """The tokenizer as verl's HFModelConfig loads it; or None, and the line that says why."""
    from verl.utils.tokenizer import hf_tokenizer

    path = model.tokenizer_path or model.path
    fix = "Fix: set actor_rollout_ref.model.tokenizer_path, or copy the tokenizer's files into the model's folder"
    if settings.is_url(path):
        return None, Check("tokenizer", "warn", f"{path}: remote path, prompt lengths are not checked")
    offline = hub_access.is_offline(path)
    try:
        tokenizer = hf_tokenizer(path, trust_remote_code=model.trust_remote_code)
    except Exception as error:  # noqa: BLE001  transformers raises anything
        if offline:
            status: Status = "warn" if dry_run and published_config(path) is not None else "FAIL"
            return None, Check(
                "tokenizer", status, f"prompt lengths are not checked: {hub_access.explain_offline(path)}"
            )
        return None, Check("tokenizer", "FAIL", f"cannot read a tokenizer from {path!r}: {describe(error)}. {fix}")
    if not tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys():
        # transformers gives an empty tokenizer for a folder without one.
        return None, Check("tokenizer", "FAIL", f"the tokenizer of {path!r} has no vocabulary. {fix}")
    if model.custom_chat_template is not None:
        tokenizer.chat_template = model.custom_chat_template
    if not tokenizer.chat_template:
        fix = "Fix: set actor_rollout_ref.model.custom_chat_template, or use the instruction-tuned model's tokenizer"
        return None, Check("tokenizer", "FAIL", f"the tokenizer of {path!r} has no chat template. {fix}")
    if isinstance(tokenizer.chat_template, dict):
        # Each checkpoint gets a file for each template, with the template's name.
        outside = [name for name in tokenizer.chat_template if Path(f"{name}.jinja").name != f"{name}.jinja"]
        if outside:
            fix = "do not use this model, or, if you trust it, set actor_rollout_ref.model.custom_chat_template"
            detail = f"chat templates of {path!r} would be written outside of the checkpoint: {outside}"
            return None, Check("tokenizer", "FAIL", f"{detail}. Fix: {fix}")
    return tokenizer, None


def _check_file(name: str, file: str, data: DictConfig, tokenizer: Any) -> tuple[Check, int | None]:
    """The file's line, and how many of its rows the run will have (None if unknown)."""
    from verl_longrl.data.prompt_lengths import CACHE_DIR
    from verl_longrl.data.validate import validate_file

    if settings.is_url(file):
        return Check(name, "warn", f"{file}: remote path, rows are not checked"), None
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
    except Exception as error:  # noqa: BLE001  a chat template is a program, and raises anything
        return Check(name, "FAIL", f"{file}: cannot count the tokens of prompts: {describe(error)}"), None
    if not report.ok:
        return Check(name, "FAIL", "\n".join(report.lines())), None
    dropped = 0
    if data.filter_overlong_prompts:
        dropped = sum(n is not None and n > data.max_prompt_length for n in report.tokens)
    more = f"; {dropped} of them are dropped, longer than data.max_prompt_length = {data.max_prompt_length}"
    return Check(name, "ok", "\n".join(report.lines()) + (more if dropped else "")), report.rows - dropped
