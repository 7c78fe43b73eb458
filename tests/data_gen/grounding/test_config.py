"""A wrong configuration is refused in words that name the key and the fix, before anything is read or asked."""

import pytest
import yaml

from data_gen.config import ConfigError
from data_gen.grounding.config import STAGES, GroundingConfig

load = GroundingConfig.load


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["cluster.epsilom=0.2"], r"unknown option cluster.epsilom = 0.2; the nearest valid one is cluster.epsilon"),
        (["clusters.epsilon=0.2"], r"unknown option clusters"),
        (["cluster=0.2"], r"cluster = 0.2 is one value, expected a group of options"),
        (["cluster.epsilon=x"], r"cluster.epsilon = 'x'; expected a number"),
        (["cluster.epsilon=.nan"], r"cluster.epsilon = nan is out of range"),
        (["generate.top_p=2"], r"generate.top_p = 2 is out of range; expected a number above 0 and at most 1"),
        (["servers.a.attempts=1"], r"servers.a.attempts = 1: expected a whole number of at least 2"),
        (["seed=1.5"], r"seed = 1.5; expected a whole number"),
        (["part_documents=0"], r"part_documents = 0 is out of range; expected a whole number at least 1"),
        (["chunk.max_tokens=8"], r"chunk.max_tokens = 8 is out of range; expected a whole number at least 16"),
        (["ingest.buckets=[9,3]"], r"ingest.buckets = \[9, 3\]; expected ascending lengths"),
        (["ingest.text_suffixes=[py]"], r"ingest.text_suffixes has 'py'; expected a suffix such as .py"),
        (
            ["dedup.threshold=1.0"],
            r"dedup.threshold = 1.0 is out of range; expected a number at least 0 and at most 0.98",
        ),
        (["embed.backend=gpu"], r"embed.backend = 'gpu' is unknown; use one of sentence-transformers, server, static"),
        (["generate.candidates=0"], r"generate.candidates = 0 is out of range; expected a whole number at least 1"),
        (["judge.samples=0"], r"judge.samples = 0 is out of range; expected a whole number at least 1"),
        (["answer.servers=[]"], r"answer.servers is empty"),
        (["answer.closed_book=-1"], r"answer.closed_book = -1 is out of range; expected a whole number at least 0"),
        (["export.overlong=cut"], r"export.overlong = 'cut' is unknown; use one of drop, fit"),
        (
            ["export.val_fraction=1.0"],
            r"export.val_fraction = 1.0 is out of range; expected a number at least 0 and at most 0.9",
        ),
        (["servers.a.endpoints=[host:80]"], r"servers.a.endpoints = \['host:80'\]: expected base URLs with a scheme"),
        (
            ["servers.a.timeouts=3"],
            r"servers.a.timeouts = 3: unknown key. Fix: use a valid key; the nearest is servers.a.timeout_s",
        ),
        (["threshold"], r"'threshold' is no override; write KEY=VALUE"),
    ],
)
def test_wrong_values(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load(None, overrides)


def test_the_file_is_named(tmp_path):
    file = tmp_path / "c.yaml"
    for text, message in [("a: [", r"c.yaml: "), ("- a", r"c.yaml: a list"), ("sed: 1", r"c.yaml: unknown option sed")]:
        file.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load(file, [])
    with pytest.raises(ConfigError, match=r"No such file.*none.yaml"):
        load(tmp_path / "none.yaml", [])


def test_the_printed_configuration_is_the_default_and_loads(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(GroundingConfig.default_yaml())
    values = yaml.safe_load(file.read_text())
    assert set(values) >= {"seed", "tokenizer", "servers", *STAGES}
    loaded = load(file, ["cluster.epsilon=0.25"])
    assert loaded.cluster.epsilon == 0.25
    assert loaded.server("default", "x").endpoints == ("http://localhost:8000/v1",)
    assert {k: v for k, v in vars(loaded).items() if k not in ("servers", "cluster")} == {
        k: v for k, v in vars(GroundingConfig()).items() if k not in ("servers", "cluster")
    }


def test_a_server_that_is_not_defined_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"judge.server = default, and no server is defined; define it with"):
        GroundingConfig().stage("judge", [])
    config = load(None, ["servers.big.endpoints=[http://h/v1]", "generate.server=bag"])
    with pytest.raises(ConfigError, match=r"generate.server = bag, and the nearest of those defined is big"):
        config.stage("generate", [])


def test_ingest_needs_input():
    with pytest.raises(ConfigError, match="stage ingest needs --input"):
        GroundingConfig().stage("ingest", [])
