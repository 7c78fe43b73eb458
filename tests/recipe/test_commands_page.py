"""docs/commands.md has every command as it is, and its example trains."""

import re
from pathlib import Path

import pytest

from recipe.longrl import cli, commands_page, settings
from recipe.longrl.override_files import expand_files

pytestmark = pytest.mark.engine
PAGE = Path(__file__).parents[2] / "docs/commands.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == commands_page.page(), (
        "docs/commands.md is not what the commands say. Fix: python -m recipe.longrl.commands_page > docs/commands.md"
    )


def test_every_command_is_documented_and_every_documented_command_exists():
    documented = re.findall(r"^### (longrl .+)$", PAGE.read_text(), re.M)
    assert documented == [f"longrl {command.name}" for command in cli.all_commands()]
    linked = re.findall(r"\[`(longrl [^`]+)`\]\(#([\w-]+)\)", PAGE.read_text())
    assert linked == [(name, name.replace(" ", "-")) for name in documented]


def test_everything_has_an_explanation():
    empty = [line for line in PAGE.read_text().splitlines() if re.fullmatch(r"\| [^|]+ \|  ?\|", line)]
    assert not empty


def test_the_example_of_a_file_composes(tmp_path: Path):
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.S)
    (tmp_path / "my.yaml").write_text(text)
    config = settings.compose(expand_files([str(tmp_path / "my.yaml"), "trainer.total_epochs=2"]))
    assert config.longrl.reward.eta == 0.2
    assert (config.trainer.n_gpus_per_node, config.trainer.total_epochs) == (8, 2)
