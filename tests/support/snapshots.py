"""Compare rendered text with a file in the repository, so that a change of wording shows as a diff in review."""

import difflib
import os

UPDATE = "LONGRL_UPDATE_SNAPSHOTS"
"""With this variable set to 1, snapshots are written instead of compared."""


def check_snapshot(path, text):
    """Assert that a snapshot file has this text."""
    text = text.rstrip() + "\n"
    if os.environ.get(UPDATE) == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return
    assert path.is_file(), f"{path} is missing; run the test with {UPDATE}=1 to write it"
    stored = path.read_text()
    diff = difflib.unified_diff(stored.splitlines(), text.splitlines(), "snapshot", "rendered", lineterm="")
    assert stored == text, "\n".join([*diff, f"if this is intended, run the test with {UPDATE}=1 and review the diff"])


def render_messages(messages):
    """The turns of a conversation as one text."""
    return "\n\n".join(f"--- {message['role']} ---\n{message['content']}" for message in messages)


def render_sections(sections):
    """Named texts one below another; sections: name -> text."""
    return "\n\n\n".join(f"=== {name} ===\n{text}" for name, text in sections.items())
