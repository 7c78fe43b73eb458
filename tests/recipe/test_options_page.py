"""Keys are documented, the page of all keys is up to date, and no public key changes by accident."""

import re
from pathlib import Path

import yaml
from verl_longrl.config import LongRLConfig

from data_gen.mix.config import MixConfig
from recipe.longrl import options_page
from recipe.longrl.options_page import SECTIONS, tables_of

ROOT = Path(__file__).parents[2]
FROZEN = Path(__file__).parent / "public_keys.yaml"


def public_keys() -> dict[str, dict[str, object]]:
    """Section -> key -> default; "required" for a key that must be set."""
    return {
        section.title: {
            key.name: options_page.plain_default(key)
            for table in tables_of(section.group, section.prefix)
            for key in table.keys
        }
        for section in SECTIONS
    }


def test_the_page_is_up_to_date():
    assert (ROOT / "docs/configuration.md").read_text() == options_page.page(), (
        "docs/configuration.md is not what the classes say. Fix: python -m recipe.longrl.options_page > "
        "docs/configuration.md"
    )


def test_every_key_and_group_is_documented():
    for section in SECTIONS:
        for table in tables_of(section.group, section.prefix):
            # dataclasses write a docstring such as "Options(key: int = 0)" where there is none
            assert not re.match(r"\w+\(", table.text), f"no docstring: {table.text}"
            assert not (bare := [key.name for key in table.keys if not key.text]), f"no documentation below {bare}"


def test_no_public_key_disappears_or_changes_its_default():
    frozen, keys = yaml.safe_load(FROZEN.read_text()), public_keys()
    for section, defaults in frozen.items():
        for key, default in defaults.items():
            assert key in keys.get(section, {}), (
                f"{section}: {key} is gone, which is a breaking change. Fix: keep it as an alias, or say in "
                f"CHANGELOG.md what replaces it and remove it from {FROZEN.name}"
            )
            assert keys[section][key] == default, (
                f"{section}: the default of {key} changed from {default!r} to {keys[section][key]!r}, which is a "
                f"breaking change. Fix: say so in CHANGELOG.md and change it in {FROZEN.name}"
            )
    new = [f"{section}: {key}" for section in keys for key in keys[section] if key not in frozen.get(section, {})]
    assert not new, f"{new} are new public keys. Fix: add them with their defaults to {FROZEN.name}"


def test_defaults_are_valid():
    """pydantic does not check defaults."""
    needed = {LongRLConfig: {"output_dir": "o"}, MixConfig: {"sources": [{"files": "a.json"}]}}
    for section in SECTIONS:
        required = needed.get(section.group, {})
        section.group.from_dict({**section.group.defaults(), **required})
