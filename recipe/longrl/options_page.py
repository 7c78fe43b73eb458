"""Write docs/configuration.md, the page of all keys, from the classes that read them.

python -m recipe.longrl.options_page > docs/configuration.md
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, is_dataclass
from importlib import resources
from typing import Any, NamedTuple, get_args, get_origin

from omegaconf import OmegaConf
from verl_longrl.config import LongRLConfig
from verl_longrl.options import Options, default_of, describe, public_fields, strip_annotation, written
from verl_longrl.rollout.options import AffinityOptions

from recipe.longrl.curriculum.plan import StageFile


class Section(NamedTuple):
    """A class of options and where a user writes its keys."""

    title: str
    prefix: str
    group: type[Options]
    text: str


SECTIONS = (
    Section(
        "Training",
        "longrl.",
        LongRLConfig,
        "Overrides of `python -m recipe.longrl.main`, such as `longrl.reward.eta=0.2`, next to all keys of verl. "
        "`--config` prints the values of a run.",
    ),
    Section(
        "Stages of a curriculum",
        "STAGE.",
        StageFile,
        "A YAML file of stages by name, for `python -m recipe.longrl.curriculum curriculum=FILE`. On the command line, "
        "`STAGE.KEY=VALUE` changes one stage.",
    ),
    Section(
        "Prompt-affinity router",
        "",
        AffinityOptions,
        "Keys of the YAML file that `actor_rollout_ref.rollout.router_config_path` names, next to `router_class`.",
    ),
)
"""Everything that a user can configure, in the order of the page."""


class Key(NamedTuple):
    """A key that a user may set. `default` is `dataclasses.MISSING` for one that must be set."""

    name: str
    annotation: Any
    default: Any
    text: str


def keys_of(group: type[Options], prefix: str) -> Iterator[tuple[type[Options], str, list[Key]]]:
    """A group, the prefix of its keys, and the keys that hold values; then the same for each group inside it."""
    texts, nested, keys = field_texts(group), [], []
    for name, annotation in public_fields(group).items():
        kind = strip_annotation(annotation)
        if is_dataclass(kind):
            nested.append((kind, f"{prefix}{name}."))
        keys.append(Key(prefix + name, annotation, default_of(group, name), texts.get(name, "")))
        if get_origin(kind) is tuple and is_dataclass(get_args(kind)[0]):
            nested.append((get_args(kind)[0], f"{prefix}{name}[]."))
        elif get_origin(kind) is dict and is_dataclass(get_args(kind)[1]):
            nested.append((get_args(kind)[1], f"{prefix}{name}.NAME."))
    yield group, prefix, [key for key in keys if not is_dataclass(strip_annotation(key.annotation))]
    for inner, inner_prefix in nested:
        yield from keys_of(inner, inner_prefix)


def field_texts(group: type[Options]) -> dict[str, str]:
    """The documentation below each field of a group and of the groups that it inherits from."""
    texts: dict[str, str] = {}
    for cls in reversed(group.__mro__):
        if not is_dataclass(cls):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(definition, ast.ClassDef)
        for field, below in zip(definition.body, definition.body[1:], strict=False):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[name] = " ".join(text.split())
    return texts


def set_by_files() -> dict[str, Any]:
    """Keys of ours that the primary configuration sets, because their defaults depend on other keys."""
    file = resources.files("recipe.longrl.config").joinpath("longrl_trainer.yaml")
    block: Any = OmegaConf.to_container(OmegaConf.create(file.read_text()).longrl)
    return {f"longrl.{name}": value for name, value in block.items()}


def page() -> str:
    """The text of docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "All keys with their values, defaults and meaning, generated from the classes that read them with",
        "`python -m recipe.longrl.options_page > docs/configuration.md`. An unknown key or a wrong value is refused",
        "before anything starts, with what was expected.",
    ]
    for section in SECTIONS:
        lines += ["", f"## {section.title}", "", section.text]
        for group, prefix, keys in keys_of(section.group, section.prefix):
            if prefix != section.prefix:
                lines += ["", f"### {prefix.rstrip('.')}", "", " ".join((group.__doc__ or "").split())]
            lines += ["", "| key | values | default | meaning |", "|---|---|---|---|"]
            lines += [_row(key) for key in keys]
    return "\n".join(lines) + "\n"


def plain_default(key: Key) -> Any:
    """The default of a key in terms of YAML; "required" for one that must be set."""
    default = set_by_files().get(key.name, key.default)
    if default is MISSING:
        return "required"
    return list(default) if isinstance(default, tuple) else default


def _row(key: Key) -> str:
    default = plain_default(key)
    shown = default if default and isinstance(default, str) else written(default)
    cells = (f"`{key.name}`", describe(key.annotation), f"`{shown}`", key.text)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    print(page(), end="")
