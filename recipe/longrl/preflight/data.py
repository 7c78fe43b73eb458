"""The data, with the tokenizer and chat template that will be used: every row valid, every prompt short enough."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from verl_longrl.config import LongRLConfig

from recipe.longrl import hub_access, settings
from recipe.longrl.memory.shapes import published_config
from recipe.longrl.preflight.check import Check, Status, describe


def checks(config: DictConfig, longrl: LongRLConfig, rows: dict[str, int], dry_run: bool) -> Iterator[Check]:
    """One line per file, and one for the tokenizer or the user's scorers if they do not load.

    rows: filled with the rows of each split that a run will have, where they can be counted.
    """
    if longrl.reward.scorers:
        yield _scorers(config, longrl)
    tokenizer, problem = _tokenizer(config.actor_rollout_ref.model, dry_run)
    if problem is not None:
        yield problem
    for split in ("train_files", "val_files"):
        counts = []
        for file in _files(config, split):
            line, count = _file(f"data.{split}", file, config.data, tokenizer)
            yield line
            counts.append(count)
        known = [count for count in counts if count is not None]
        if len(known) == len(counts):
            most = config.data.get(f"{split.removesuffix('_files')}_max_samples", -1)
            rows[split] = min(sum(known), most) if most > 0 else sum(known)
            if not sum(known):
                limit = f"data.max_prompt_length={config.data.max_prompt_length}"
                yield Check(f"data.{split}", "FAIL", f"no prompt fits {limit} tokens; raise it, or shorten documents")


def _files(config: DictConfig, split: str) -> list[str]:
    files = config.data[split]
    return [files] if isinstance(files, str) else list(files)


def _scorers(config: DictConfig, longrl: LongRLConfig) -> Check:
    """The user's scorers load, and each scores an empty response; else what is wrong, or that they are not used."""
    from verl_longrl.data.scorer_check import try_scorers

    files = [file for split in ("train_files", "val_files") for file in _files(config, split)]
    try:
        trial = try_scorers(longrl.reward, [file for file in files if Path(file).is_file()])
    except ImportError as error:
        return Check("scorers", "FAIL", f"longrl.reward.scorers = {list(longrl.reward.scorers)}: {error}")
    if trial.problems:
        return Check("scorers", "FAIL", "\n".join(trial.problems))
    if trial.unused:
        return Check("scorers", "warn", f"no row has the data_source of: {', '.join(trial.unused)}")
    return Check("scorers", "ok", f"each gave a score for an empty response: {', '.join(trial.tried)}")


def longest_prompt(config: DictConfig) -> int | None:
    """Tokens of the longest prompt in the data; None where it or the tokenizer cannot be read, as `checks` says."""
    from verl_longrl.data.prompt_lengths import CACHE_DIR, prompt_lengths

    data, (tokenizer, _) = config.data, _tokenizer(config.actor_rollout_ref.model, dry_run=True)
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


def _tokenizer(model: DictConfig, dry_run: bool) -> tuple[Any, Check | None]:
    """The tokenizer as HFModelConfig makes it; None with the line that says why not."""
    from verl.utils.tokenizer import hf_tokenizer

    path = model.tokenizer_path or model.path
    fix = "give actor_rollout_ref.model.tokenizer_path, or put the tokenizer's files into the model's folder"
    if settings.is_url(path):
        return None, Check("tokenizer", "warn", f"{path} is fetched when the run starts; prompt lengths unchecked")
    offline = hub_access.is_offline(path)
    try:
        tokenizer = hf_tokenizer(path, trust_remote_code=model.trust_remote_code)
    except Exception as error:  # noqa: BLE001  transformers raises what it likes
        if offline:
            status: Status = "warn" if dry_run and published_config(path) is not None else "FAIL"
            return None, Check("tokenizer", status, f"prompts are not counted: {hub_access.explain_offline(path)}")
        return None, Check("tokenizer", "FAIL", f"cannot read a tokenizer from {path!r}: {describe(error)}; {fix}")
    if not tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys():  # transformers makes one of nothing
        return None, Check("tokenizer", "FAIL", f"the tokenizer of {path!r} has no vocabulary; {fix}")
    if model.custom_chat_template is not None:
        tokenizer.chat_template = model.custom_chat_template
    if not tokenizer.chat_template:
        fix = "give actor_rollout_ref.model.custom_chat_template, or the instruction-tuned model's tokenizer"
        return None, Check("tokenizer", "FAIL", f"the tokenizer of {path!r} has no chat template; {fix}")
    if isinstance(tokenizer.chat_template, dict):  # each checkpoint has a file of each name
        strange = [name for name in tokenizer.chat_template if Path(f"{name}.jinja").name != f"{name}.jinja"]
        if strange:
            fix = "do not trust this model; if you do, give actor_rollout_ref.model.custom_chat_template"
            what = f"the tokenizer of {path!r} names chat templates to be written elsewhere: {strange}; {fix}"
            return None, Check("tokenizer", "FAIL", what)
    return tokenizer, None


def _file(name: str, file: str, data: DictConfig, tokenizer: Any) -> tuple[Check, int | None]:
    """The file's line, and how many of its rows a run will have; None where that is not known."""
    from verl_longrl.data.prompt_lengths import CACHE_DIR
    from verl_longrl.data.validate import validate_file

    if settings.is_url(file):
        return Check(name, "warn", f"{file} is fetched, and validated, when the run starts"), None
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
        return Check(name, "FAIL", f"cannot count the prompts of {file}: {describe(error)}"), None
    if not report.ok:
        return Check(name, "FAIL", "\n".join(report.lines())), None
    dropped = 0
    if data.filter_overlong_prompts:
        dropped = sum(n is not None and n > data.max_prompt_length for n in report.tokens)
    more = f"; {dropped} of them dropped, longer than data.max_prompt_length = {data.max_prompt_length}"
    return Check(name, "ok", "\n".join(report.lines()) + (more if dropped else "")), report.rows - dropped
