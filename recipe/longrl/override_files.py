"""Read YAML files of a user's own as Hydra overrides: `longrl train my.yaml trainer.total_epochs=2`.

    model: qwen2.5-7b-1m            model=qwen2.5-7b-1m
    data:
      train_files: [a.parquet]      data.train_files=['a.parquet']
    longrl:
      reward: {eta: 0.2}            longrl.reward.eta=0.2

A file has the shape that `--config` prints, and may choose groups. `+` in front of a first name adds a key that verl
does not list. An override that is typed takes precedence over all files, and a later file over an earlier one.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipe.longrl import settings

ENDINGS = (".yaml", ".yml")
_NAME = re.compile(r"[A-Za-z_$][\w$-]*")
"""One part of a key in Hydra's grammar."""


def expand_files(arguments: Sequence[str]) -> list[str]:
    """The overrides of a command line, with those of the YAML files that it names in front.

    Raises SettingsError for a file that cannot be read or has no overrides.
    """
    files = [argument for argument in arguments if argument.endswith(ENDINGS) and "=" not in argument]
    typed = [argument for argument in arguments if argument not in files]
    overrides: list[str] = []
    # Hydra accepts the choice of a group only once.
    chosen = {group for group in settings.GROUPS if any(argument.startswith(f"{group}=") for argument in typed)}
    for file in reversed(files):
        read = [override for override in read_overrides(Path(file)) if override.partition("=")[0] not in chosen]
        chosen |= {override.partition("=")[0] for override in read} & {*settings.GROUPS}
        overrides = read + overrides
    return overrides + typed


def read_overrides(file: Path) -> list[str]:
    """The overrides in a YAML file, one for each value that is not a mapping. Raises SettingsError."""
    try:
        values: Any = OmegaConf.to_container(OmegaConf.load(file))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise settings.SettingsError(f"{file}: cannot be read: {reason}. Fix: name a YAML file of settings") from error
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise settings.SettingsError(f"{file}: is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise settings.SettingsError(
            f"{file}: expected keys and values, such as longrl: {{reward: {{eta: 0.2}}}}, not a list or a text"
        )
    overrides = []
    for key, value in _flatten(values):
        if any(_NAME.fullmatch(part) is None for part in key.lstrip("+").split(".")):
            raise settings.SettingsError(f"{file}: {key}: expected a key of letters, digits, dots and underscores")
        # Groups set keys that verl does not list. A file may set them without the group.
        overrides.append(f"{'++' if key in _keys_of_groups() else ''}{key}={write_value(value)}")
    return overrides


def _flatten(values: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted key and the value of each entry that is not a mapping."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@cache
def _keys_of_groups() -> frozenset[str]:
    """Every key that a shipped method, model or hardware sets."""
    folders = [resources.files("recipe.longrl.config").joinpath(group) for group in settings.GROUPS]
    files = [file for folder in folders for file in folder.iterdir() if file.name.endswith(ENDINGS)]
    return frozenset(key for file in files for key, _ in _flatten(yaml.safe_load(file.read_text()) or {}))


def write_value(value: Any) -> str:
    """A value of YAML in the grammar of Hydra's overrides: null, true, 0.5, 'a text', ['a'], {a: 1}."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{','.join(map(write_value, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{write_value(inner)}' for key, inner in value.items())}}}"
    # A backslash means itself, except before a quote.
    text = re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), str(value))
    return f"'{text}'"
