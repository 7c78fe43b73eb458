"""Write the model card of an exported checkpoint: base model, data, method, code and results.

It is made from files in the run's folder (config.yaml, starts.jsonl, metrics.jsonl, summary.json), at the end of the
run or later. Facts that these files do not contain are called unknown.
"""

import re
import time
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData, metadata_load, try_to_load_from_cache
from omegaconf import OmegaConf
from verl_longrl.data.demonstrations import DATASET
from verl_longrl.trainer.checkpoints import MANIFEST, step_of

from recipe.longrl import provenance, report, run_identity

CARD, TAG = "README.md", "longrl"
UNKNOWN = "unknown"
DATA_CARD_CHARACTERS = 20_000
"""Characters of a data card that are copied."""
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_IN_THE_HUBS_CACHE = re.compile(r"/models--([^/]+?)--([^/]+)/snapshots/")


def read_value(config: Path | None, key: str) -> Any:
    """The value of a dotted key in a run's stored configuration; None if it is unknown."""
    return None if config is None else OmegaConf.select(OmegaConf.load(config), key)


def compose_card(checkpoints: Path, checkpoint: Path) -> str:
    """The text of the card. checkpoints: the folder of the run's checkpoints; checkpoint: the exported one."""
    stored = run_identity.find_stored_config(checkpoints)
    plain: dict[str, Any] = yaml.safe_load(stored.read_text()) if stored else {}
    config = OmegaConf.create(
        {key: value for key, value in plain.items() if key not in (run_identity.STARTED_WITH, run_identity.CONTENT)}
    )
    started_with, run = plain.get(run_identity.STARTED_WITH, {}), _run_folder(checkpoints, stored, config)

    def fill_in(text: str, *keys: str, default: str = UNKNOWN) -> str:
        """The text with the values of these keys instead of {}; the default if one is unknown."""
        values = [OmegaConf.select(config, key) for key in keys]
        return default if None in values else text.format(*values)

    model = started_with.get("actor_rollout_ref.model.path") or OmegaConf.select(config, "actor_rollout_ref.model.path")
    hub_name, base_card = _base(model)
    starts = _starts(run, checkpoint) if run else []
    supervised = OmegaConf.select(config, "data.custom_cls") == DATASET
    facts = {
        "base model": f"{model or UNKNOWN}" + (f" ({hub_name})" if hub_name and hub_name != model else ""),
        "license": f"of the base model, according to its card: {base_card['license']}"
        if "license" in base_card
        else UNKNOWN,
        "method": "supervised fine-tuning on demonstrations"
        if supervised
        else fill_in(
            "reward {}, advantages {}, task-aware estimator {}",
            *("longrl.reward.method", "algorithm.adv_estimator", "longrl.advantage.estimator"),
        ),
        "step": fill_in(
            f"{step_of(checkpoint)}, with {{}} {'demonstrations' if supervised else 'prompts of {} rollouts'} each",
            *("data.train_batch_size", *([] if supervised else ["actor_rollout_ref.rollout.n"])),
            default=str(step_of(checkpoint)),
        ),
        "lengths": fill_in(
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
        tags=[TAG, "supervised-fine-tuning" if supervised else "reinforcement-learning", "long-context"],
    )
    parts = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {fill_in('{}', 'trainer.experiment_name', default='LongRL')}, step {step_of(checkpoint)}\n",
        "\n".join(["| | |", "|---|---|", *(f"| {key} | {_cell(value)} |" for key, value in facts.items())]) + "\n",
        f"## Before and after\n\n{_comparison(run, step_of(checkpoint))}\n",
        f"## Command\n\n{_command(run, starts)}\n",
        *_data_cards(OmegaConf.select(config, "data.train_files") or []),
    ]
    return "\n".join(parts)


def _run_folder(checkpoints: Path, stored: Path | None, config: Any) -> Path | None:
    """The run's folder: the parent of its checkpoints' folder, or as its configuration says."""
    if stored is None:
        return None
    if stored.parent != checkpoints:
        return stored.parent
    folder = Path(config.longrl.output_dir)
    return folder if folder.is_dir() else None


def _starts(run: Path, checkpoint: Path) -> list[dict[str, Any]]:
    """The starts of the run before it wrote this checkpoint."""
    starts, manifest = provenance.read_starts(run), checkpoint / MANIFEST
    if not manifest.is_file():
        return starts
    written = time.strftime(provenance.TIME, time.gmtime(manifest.stat().st_mtime))
    return [start for start in starts if start["time"] <= written]


def _base(model: str | None) -> tuple[str | None, dict[str, Any]]:
    """The base model's name on the hub, if it has one, and the metadata of its card, if the card is available."""
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
    compared = report.compare_first_and_last(report.read_metrics(run), step) if run else None
    if compared is None or not compared.lines():
        return f"{UNKNOWN.capitalize()}: the run has no metrics.jsonl, or nothing was measured up to this step."
    lines = [f"| {label} | {before:.3f} | {after:.3f} |" for label, before, after in compared.lines()]
    head = [f"Means over {compared.where}.", "", f"| | step {compared.first} | step {compared.last} |", "|---|---|---|"]
    if compared.first == compared.last:
        lines = [f"| {label} | {after:.3f} |" for label, _, after in compared.lines()]
        head = [
            f"Means over {compared.where}, which were measured once.",
            "",
            f"| | step {compared.last} |",
            "|---|---|",
        ]
    return "\n".join([*head, *lines])


def _command(run: Path | None, starts: list[dict[str, Any]]) -> str:
    """The command of the last start, or that of the summary if starts were not recorded."""
    command = starts[-1]["command"] if starts else None
    if command is None and run is not None:
        command = report.read_summary(run).get("command")
    return f"```bash\n{command}\n```" if command else f"{UNKNOWN.capitalize()}: the run's folder does not contain it."


def _data_cards(files: list[str]) -> list[str]:
    """A section for each data card next to training files: those of data_gen and of datasets from a hub."""
    sections = []
    for folder in dict.fromkeys(Path(file).parent for file in files):
        card = folder / CARD
        if not card.is_file():
            continue
        content = card.read_text(errors="replace")
        of_a_hub = re.match(r"---\n.*?\n---\n", content, re.DOTALL)
        if of_a_hub or (folder / "funnel.json").is_file():
            sections.append(
                f"## Training data in {folder}\n\n{_embed_card(content[of_a_hub.end() :] if of_a_hub else content)}"
            )
    return sections


def _embed_card(card: str) -> str:
    """A data card for embedding: with lower headings, without pictures and links to local files."""
    card = re.sub(r"!\[[^\]]*\]\([^)]*\)\n?", "", card)
    card = re.sub(r"\[([^\]]*)\]\((?!https?://)[^)]*\)", r"\1", card)
    card = re.sub(r"^#", "###", card, flags=re.MULTILINE).strip()
    cut = len(card) > DATA_CARD_CHARACTERS
    return card[:DATA_CARD_CHARACTERS] + ("\n\n(shortened)\n" if cut else "\n")


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ")
