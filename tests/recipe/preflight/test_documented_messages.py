"""The messages that docs/clusters.md quotes are those that the preflight prints."""

import ast
import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[3]
DOCUMENT = REPO / "docs/clusters.md"
SOURCES = [*(REPO / "recipe/longrl/preflight").rglob("*.py"), REPO / "recipe/longrl/flash_attention.py"]


def quoted_messages() -> list[str]:
    section = DOCUMENT.read_text().partition("\n## The preflight")[2].partition("\n## ")[0]
    return re.findall(r'"(.+?)"', section.replace(r"\|", "|"))


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """All string literals of the preflight; of an f-string the parts between its values."""
    trees = [ast.parse(path.read_text()) for path in SOURCES]
    constants = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return [node.value for node in constants if isinstance(node.value, str)]


@pytest.mark.parametrize("message", dict.fromkeys(quoted_messages()))
def test_a_quoted_message_is_printed(message, texts):
    for part in message.split("..."):
        assert any(part in text for text in texts), part
