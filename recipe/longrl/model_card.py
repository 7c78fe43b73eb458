"""The model card of an exported checkpoint: what it was made of, how, and what came of it.

Made from what the run's folder holds (config.yaml, starts.jsonl, metrics.jsonl, summary.json), at the end of the run or
at any time later. What these do not say is called unknown, and nothing else is looked up.
"""

import re
import time
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData, metadata_load, try_to_load_from_cache
from omegaconf import OmegaConf
from verl_longrl.trainer.checkpoints import MANIFEST, step_of

from recipe.longrl import provenance, report, run_identity

CARD, TAG = "README.md", "longrl"
UNKNOWN = "unknown"
MOST_OF_A_DATA_CARD = 20_000
"""Characters of a data card that are taken over."""
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_IN_THE_HUBS_CACHE = re.compile(r"/models--([^/]+?)--([^/]+)/snapshots/")


def read(config: Path | None, key: str) -> Any:
    """The value of a dotted key in a run's stored configuration; None where it is not known."""
    return None if config is None else OmegaConf.select(OmegaConf.load(config), key)


def text(checkpoints: Path, checkpoint: Path) -> str:
    """The card of a checkpoint under `checkpoints`, a run's folder of them."""
    stored = run_identity.stored_beside(checkpoints)
    plain: dict[str, Any] = yaml.safe_load(stored.read_text()) if stored else {}
    config = OmegaConf.create(
        {key: value for key, value in plain.items() if key not in (run_identity.STARTED_WITH, run_identity.CONTENT)}
    )
    started_with, run = plain.get(run_identity.STARTED_WITH, {}), _run_folder(checkpoints, stored, config)

    def said(words: str, *keys: str, otherwise: str = UNKNOWN) -> str:
        """The words with the values of these keys in place of {}."""
        values = [OmegaConf.select(config, key) for key in keys]
        return otherwise if None in values else words.format(*values)

    model = started_with.get("actor_rollout_ref.model.path") or OmegaConf.select(config, "actor_rollout_ref.model.path")
    hub_name, base_card = _base(model)
    starts = _starts(run, checkpoint) if run else []
    facts = {
        "base model": f"{model or UNKNOWN}" + (f" ({hub_name})" if hub_name and hub_name != model else ""),
        "license": f"of the base model, as its card says: {base_card['license']}"
        if "license" in base_card
        else UNKNOWN,
        "method": said(
            "reward {}, advantages {}, their estimator for tasks {}",
            *("longrl.reward.method", "algorithm.adv_estimator", "longrl.advantage.estimator"),
        ),
        "step": said(
            f"{step_of(checkpoint)}, of {{}} prompts with {{}} rollouts each",
            *("data.train_batch_size", "actor_rollout_ref.rollout.n"),
            otherwise=str(step_of(checkpoint)),
        ),
        "lengths": said(
            "prompts of up to {} tokens, responses of up to {}", "data.max_prompt_length", "data.max_response_length"
        ),
        "training data": _files(started_with, config, "train_files"),
        "held-out data": _files(started_with, config, "val_files"),
        "code": ", then ".join(dict.fromkeys(start["commit"] or UNKNOWN for start in starts)) or UNKNOWN,
        "versions": ", ".join(f"{name} {version}" for name, version in _versions(starts).items()) or UNKNOWN,
    }
    data = ModelCardData(
        base_model=hub_name or (base_card.get("base_model") if TAG in (base_card.get("tags") or []) else None),
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=[TAG, "reinforcement-learning", "long-context"],
    )
    parts = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {said('{}', 'trainer.experiment_name', otherwise='LongRL')}, step {step_of(checkpoint)}\n",
        "\n".join(["| | |", "|---|---|", *(f"| {key} | {_cell(value)} |" for key, value in facts.items())]) + "\n",
        f"## Before and after\n\n{_comparison(run, step_of(checkpoint))}\n",
        f"## Command\n\n{_command(run, starts)}\n",
        *_data_cards(OmegaConf.select(config, "data.train_files") or []),
    ]
    return "\n".join(parts)


def _run_folder(checkpoints: Path, stored: Path | None, config: Any) -> Path | None:
    """Where the run wrote the rest: around its checkpoints, or where its configuration says."""
    if stored is None:
        return None
    if stored.parent != checkpoints:
        return stored.parent
    folder = Path(config.longrl.output_dir)
    return folder if folder.is_dir() else None


def _starts(run: Path, checkpoint: Path) -> list[dict[str, Any]]:
    """The starts of the run until it wrote this checkpoint."""
    starts, manifest = provenance.starts(run), checkpoint / MANIFEST
    if not manifest.is_file():
        return starts
    written = time.strftime(provenance.TIME, time.gmtime(manifest.stat().st_mtime))
    return [start for start in starts if start["time"] <= written]


def _base(model: str | None) -> tuple[str | None, dict[str, Any]]:
    """The base model's name on the hub, where it has one, and the head of its card, where that is at hand."""
    if model is None:
        return None, {}
    card: Any = Path(model) / CARD
    hub_name = "/".join(found.groups()) if (found := _IN_THE_HUBS_CACHE.search(model)) else None
    if not Path(model).is_dir() and _HUB_NAME.fullmatch(model):
        hub_name, card = model, try_to_load_from_cache(model, CARD)
    if not isinstance(card, str | Path) or not Path(card).is_file():
        return hub_name, {}
    try:
        return hub_name, metadata_load(card) or {}
    except (ValueError, yaml.YAMLError):
        return hub_name, {}


def _files(started_with: dict[str, Any], config: Any, key: str) -> str:
    files = started_with.get(f"data.{key}") or OmegaConf.select(config, f"data.{key}") or [UNKNOWN]
    return ", ".join([files] if isinstance(files, str) else files)


def _versions(starts: list[dict[str, Any]]) -> dict[str, str]:
    return starts[-1]["versions"] if starts else {}


def _comparison(run: Path | None, step: int) -> str:
    compared = report.compare(report.read(run), step) if run else None
    if compared is None:
        return f"{UNKNOWN.capitalize()}: there is no metrics.jsonl of the run, or it holds no step up to this one."
    lines = [f"| {label} | {before:.3f} | {after:.3f} |" for label, before, after in compared.lines()]
    head = [f"Means over {compared.where}.", "", f"| | step {compared.first} | step {compared.last} |", "|---|---|---|"]
    if compared.first == compared.last:
        lines = [f"| {label} | {after:.3f} |" for label, _, after in compared.lines()]
        head = [
            f"Means over {compared.where}, which were looked at once.",
            "",
            f"| | step {compared.last} |",
            "|---|---|",
        ]
    return "\n".join([*head, *lines])


def _command(run: Path | None, starts: list[dict[str, Any]]) -> str:
    """Of the last start; of a run from before starts were recorded, what its summary says."""
    command = starts[-1]["command"] if starts else None
    if command is None and run is not None:
        command = report.read_summary(run).get("command")
    return f"```bash\n{command}\n```" if command else f"{UNKNOWN.capitalize()}: the run's folder does not say."


def _data_cards(files: list[str]) -> list[str]:
    """A section for each card that lies beside training files: those of data_gen and of data sets from a hub."""
    found = []
    for folder in dict.fromkeys(Path(file).parent for file in files):
        card = folder / CARD
        if not card.is_file():
            continue
        content = card.read_text(errors="replace")
        of_a_hub = re.match(r"---\n.*?\n---\n", content, re.DOTALL)
        if of_a_hub or (folder / "funnel.json").is_file():
            found.append(
                f"## Training data in {folder}\n\n{_taken_over(content[of_a_hub.end() :] if of_a_hub else content)}"
            )
    return found


def _taken_over(card: str) -> str:
    """A data card as part of another: its headings lower, without pictures and links to files beside it."""
    card = re.sub(r"!\[[^\]]*\]\([^)]*\)\n?", "", card)
    card = re.sub(r"\[([^\]]*)\]\((?!https?://)[^)]*\)", r"\1", card)
    card = re.sub(r"^#", "###", card, flags=re.MULTILINE).strip()
    cut = len(card) > MOST_OF_A_DATA_CARD
    return card[:MOST_OF_A_DATA_CARD] + ("\n\n(cut off here)\n" if cut else "\n")


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ")
