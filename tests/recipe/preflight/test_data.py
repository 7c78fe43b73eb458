"""Data, tokenizer and scorers: each file has its line, even if the tokenizer or its template fails."""

import json
import re
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.train_files=[/no/such.parquet]", "/no/such.parquet: no such file"),
        ("data.max_prompt_length=16", "more than max_prompt_length = 16"),
    ],
)
def test_a_problem_is_named(check, override: str, message: str):
    status, detail = check(override)["data.train_files"]
    assert status == "FAIL"
    assert re.search(message, detail), detail


def test_over_long_prompts_may_be_dropped_on_demand(check):
    assert check("data.max_prompt_length=120", "data.filter_overlong_prompts=true")["data.train_files"][0] == "ok"


def without(assets: Path, folder: Path, *names: str) -> str:
    """The demo's model folder without some files."""
    shutil.copytree(assets / "model", folder, ignore=lambda _, found: [n for n in found if n in names])
    return f"actor_rollout_ref.model.path={folder}"


def test_no_tokenizer(check, assets: Path, tmp_path: Path):
    model = without(assets, tmp_path / "model", "tokenizer.json", "tokenizer_config.json")
    found = check(model)  # transformers would use a tokenizer of one word
    assert found["tokenizer"][0] == "FAIL"
    assert f"the tokenizer of '{tmp_path / 'model'}' has no vocabulary. Fix: set" in found["tokenizer"][1]
    assert found["data.train_files"][0] == "ok"  # what can be said without one
    path = f"actor_rollout_ref.model.tokenizer_path={assets / 'model'}"
    assert "tokenizer" not in check(model, path)


def test_no_chat_template(check, assets: Path, tmp_path: Path):
    model = without(assets, tmp_path / "model", "chat_template.jinja")
    status, detail = check(model)["tokenizer"]
    assert status == "FAIL"
    assert "no chat template. Fix: set actor_rollout_ref.model.custom_chat_template" in detail


@pytest.mark.parametrize("name", ["../../../evil", "/tmp/evil", "sub/evil"])
def test_chat_templates_that_would_be_written_elsewhere(check, assets: Path, tmp_path: Path, name: str):
    """Each checkpoint saves the tokenizer, and transformers before 5.10 followed such names anywhere."""
    model = without(assets, tmp_path / "model", "chat_template.jinja")
    file = tmp_path / "model" / "tokenizer_config.json"
    template = (assets / "model" / "chat_template.jinja").read_text()
    templates = [{"name": each, "template": template} for each in ("default", name)]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": templates}))
    status, detail = check(model)["tokenizer"]
    assert status == "FAIL"
    assert f"would be written outside of the checkpoint: ['{name}']. Fix: do not use this model" in detail
    templates[1]["name"] = "tool_use"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": templates}))
    assert "tokenizer" not in check(model)


def test_a_custom_chat_template_is_the_one_that_counts(check):
    template = "actor_rollout_ref.model.custom_chat_template='{% for m in messages %}{{ m.content * 50 }}{% endfor %}'"
    status, detail = check(template)["data.train_files"]
    assert status == "FAIL"
    assert "more than max_prompt_length = 1024" in detail


def test_a_chat_template_that_refuses(check):
    template = "actor_rollout_ref.model.custom_chat_template='{{ raise_exception(\"no documents\") }}'"
    status, detail = check(template)["data.train_files"]
    assert status == "FAIL"
    assert "the chat template refuses a prompt (no documents)" in detail


def test_lengths_are_cached_where_the_run_looks_for_them(check, tmp_path: Path):
    template = "actor_rollout_ref.model.custom_chat_template='{{ messages[0].content }}'"
    check(template, f"+data.cache_dir={tmp_path / 'cache'}")
    assert len(list((tmp_path / "cache" / "prompt_lengths").iterdir())) == 2


def test_files_elsewhere_are_left_to_the_start(check):
    found = check("data.train_files=['hdfs://data/train.parquet']")
    assert found["data.train_files"] == (
        "warn",
        "hdfs://data/train.parquet: remote path, rows are not checked",
    )


def test_scorers_of_the_users_own(check, tmp_path: Path):
    path = tmp_path / "mine.py"
    assert f"'{path}': no such file" in check(f"longrl.reward.scorers=[{path}]")["scorers"][1]
    path.write_text("1 / 0\n")
    status, detail = check(f"longrl.reward.scorers={path}")["scorers"]
    assert status == "FAIL"
    assert "ZeroDivisionError" in detail
    head = "from verl_longrl.rewards.registry import scorer\nfrom verl_longrl.rewards.score import Score\n"
    own = f"@scorer('task_{tmp_path.name}')\ndef f(response, ground_truth, extra_info, options): return Score(0.0)\n"
    path.write_text(head + own)
    status, detail = check(f"longrl.reward.scorers=[{path}]")["scorers"]
    assert (status, detail) == ("warn", f"no row has these as its data_source: task_{tmp_path.name}")
    assert "scorers" not in check()


def test_a_tokenizer_that_cannot_be_read(check, assets: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    status, detail = check(f"actor_rollout_ref.model.tokenizer_path={tmp_path / 'empty'}")["tokenizer"]
    assert status == "FAIL"
    assert f"cannot read a tokenizer from '{tmp_path / 'empty'}'" in detail
