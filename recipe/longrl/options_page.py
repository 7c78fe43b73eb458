"""Write docs/configuration.md, the page of all keys, from the classes that read them.

python -m recipe.longrl.options_page > docs/configuration.md
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, is_dataclass
from importlib import resources
from typing import Any, NamedTuple, get_args, get_origin

from omegaconf import OmegaConf
from verl_longrl.config import LongRLConfig
from verl_longrl.options import Options, default_of, describe, public_fields, strip_annotation, written
from verl_longrl.rollout.options import AffinityOptions

from data_gen.grounded_qa.pipeline import GROUNDED_QA
from data_gen.grounding.pipeline import GROUNDING
from data_gen.keychain.pipeline import KEYCHAIN
from data_gen.mix.config import MixConfig
from data_gen.multitask.pipeline import MULTITASK
from recipe.longrl.curriculum.plan import StageOptions


class Section(NamedTuple):
    """A class of options and where a user writes its keys."""

    title: str
    prefix: str
    group: type[Options]
    text: str


_PIPELINE = "Keys of `data_gen.{}`, on the command line as KEY=VALUE or in the YAML file of `--config`."

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
        StageOptions,
        "A YAML file of stages by name, named by `curriculum=FILE`. On the command line, "
        "`STAGE.KEY=VALUE` changes one stage. The keys below `STAGE.sft` are also those of "
        "`python -m recipe.longrl.sft`, as `sft.KEY=VALUE`.",
    ),
    Section(
        "Prompt-affinity router",
        "",
        AffinityOptions,
        "Keys of the YAML file that `actor_rollout_ref.rollout.router_config_path` names, next to `router_class`.",
    ),
    Section("Grounded questions", "", GROUNDING.config, _PIPELINE.format("grounding")),
    Section("Annotated questions", "", GROUNDED_QA.config, _PIPELINE.format("grounded_qa")),
    Section("KeyChain", "", KEYCHAIN.config, _PIPELINE.format("keychain")),
    Section("Multi-task data", "", MULTITASK.config, _PIPELINE.format("multitask")),
    Section("Mixing data sets", "", MixConfig, "Keys of the YAML file that `--config` of `data_gen.mix` reads."),
)
"""Everything that a user can configure, in the order of the page."""


class Key(NamedTuple):
    """A key that a user may set. `default` is `dataclasses.MISSING` for one that must be set."""

    name: str
    annotation: Any
    default: Any
    text: str


class Table(NamedTuple):
    """The keys of one group, without those of the groups inside it."""

    prefix: str
    text: str
    keys: list[Key]


def tables_of(group: type[Options], prefix: str, text: str = "") -> Iterator[Table]:
    """The table of a group, then those of the groups inside it. text: what the field adds to the group's docstring."""
    texts, keys = field_texts(group), []
    inner: list[tuple[Any, str, str]] = []
    for name, annotation in public_fields(group).items():
        kind, field_text = strip_annotation(annotation), texts.get(name, "")
        if is_dataclass(kind):
            inner.append((kind, f"{prefix}{name}.", field_text))
            continue
        keys.append(Key(prefix + name, annotation, default_of(group, name), field_text))
        arguments = get_args(kind)
        if get_origin(kind) is tuple and is_dataclass(arguments[0]):
            inner.append((arguments[0], f"{prefix}{name}[].", ""))
        elif get_origin(kind) is dict and is_dataclass(arguments[1]):
            inner.append((arguments[1], f"{prefix}{name}.NAME.", ""))
    yield Table(prefix, " ".join(f"{group.__doc__} {text}".split()), keys)
    for inner_group, inner_prefix, inner_text in inner:
        yield from tables_of(inner_group, inner_prefix, inner_text)


def field_texts(group: type[Options]) -> dict[str, str]:
    """The documentation below each field of a group and of the groups that it inherits from."""
    texts: dict[str, str] = {}
    for cls in reversed(group.__mro__):
        # The configuration of a pipeline is put together by code, of groups that have docstrings.
        if not is_dataclass(cls) or cls.__qualname__ not in vars(sys.modules[cls.__module__]):
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
        for table in tables_of(section.group, section.prefix):
            if table.prefix != section.prefix:
                lines += ["", f"### {table.prefix.rstrip('.')}", "", table.text]
            lines += ["", "| key | values | default | meaning |", "|---|---|---|---|"]
            lines += [_row(key) for key in table.keys]
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
