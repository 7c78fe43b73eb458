"""A wrong configuration is refused in words that name the key and the fix, before anything is read or asked."""

import pytest
import yaml

from data_gen.config import ConfigError
from data_gen.grounding.pipeline import GROUNDING

load = GROUNDING.config.load


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["cluster.epsilom=0.2"], r"cluster.epsilom = 0.2: unknown key. .* the nearest is cluster.epsilon "),
        (["clusters.epsilon=0.2"], r"clusters = .*: unknown key. .* the nearest is cluster "),
        (["cluster=0.2"], r"cluster = 0.2: expected a group of keys \(min_size"),
        (["cluster.epsilon=x"], r"cluster.epsilon = 'x': expected a number of at least 0 and at most 2"),
        (["cluster.epsilon=.nan"], r"cluster.epsilon = nan: expected a number"),
        (["generate.top_p=2"], r"generate.top_p = 2: expected a number above 0 and at most 1"),
        (["servers.a.attempts=1"], r"servers.a.attempts = 1: expected a whole number of at least 2"),
        (["servers.a.name=b"], r"servers.a.name = 'b': unknown key"),
        (["seed=1.5"], r"seed = 1.5: expected a whole number"),
        (["part_documents=0"], r"part_documents = 0: expected a whole number of at least 1"),
        (["chunk.max_tokens=8"], r"chunk.max_tokens = 8: expected a whole number of at least 16"),
        (["ingest.buckets=[9,3]"], r"ingest.buckets = \[9, 3\]: expected ascending lengths"),
        (["ingest.text_suffixes=[py]"], r"ingest.text_suffixes = \['py'\]: a suffix begins with a dot"),
        (["dedup.threshold=1.0"], r"dedup.threshold = 1.0: expected a number of at least 0 and at most 0.98"),
        (["embed.backend=gpu"], r"embed.backend = 'gpu': expected one of sentence-transformers, server, static"),
        (["generate.candidates=0"], r"generate.candidates = 0: expected a whole number of at least 1"),
        (["judge.samples=0"], r"judge.samples = 0: expected a whole number of at least 1"),
        (["answer.servers=[]"], r"answer.servers = \[\]: expected at least one name"),
        (["answer.closed_book=-1"], r"answer.closed_book = -1: expected a whole number of at least 0"),
        (["export.overlong=cut"], r"export.overlong = 'cut': expected one of drop, fit"),
        (["export.val_fraction=1.0"], r"export.val_fraction = 1.0: expected a number of at least 0 and at most 0.9"),
        (["servers.a.endpoints=[host:80]"], r"servers.a.endpoints = \['host:80'\]: expected base URLs with a scheme"),
        (["servers.a.timeouts=3"], r"servers.a.timeouts = 3: unknown key. .* the nearest is servers.a.timeout_s"),
        (["threshold"], r"'threshold': expected KEY=VALUE"),
    ],
)
def test_wrong_values(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load(None, overrides)


def test_the_file_is_named(tmp_path):
    file = tmp_path / "c.yaml"
    for text, message in [
        ("a: [", r"c.yaml: "),
        ("- a", r"c.yaml: the file is a list"),
        ("sed: 1", r"c.yaml: sed = 1: unknown key"),
    ]:
        file.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load(file, [])
    with pytest.raises(ConfigError, match=r"No such file.*none.yaml"):
        load(tmp_path / "none.yaml", [])


def test_the_printed_configuration_is_the_default_and_loads(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(GROUNDING.config.default_yaml())
    values = yaml.safe_load(file.read_text())
    assert set(values) >= {"seed", "tokenizer", "servers", *GROUNDING.stage_names}
    loaded = load(file, ["cluster.epsilon=0.25"])
    assert loaded.cluster.epsilon == 0.25
    assert loaded.server("default", "x").endpoints == ("http://localhost:8000/v1",)
    assert {k: v for k, v in vars(loaded).items() if k not in ("servers", "cluster")} == {
        k: v for k, v in vars(GROUNDING.config()).items() if k not in ("servers", "cluster")
    }


def test_a_server_that_is_not_defined_is_named(tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"judge.server = default: this server is not defined, and neither is any other. Fix: set servers.default",
    ):
        GROUNDING.build_stage("judge", GROUNDING.config(), [])
    config = load(None, ["servers.big.endpoints=[http://h/v1]", "generate.server=bag"])
    with pytest.raises(
        ConfigError, match=r"generate.server = bag: this server is not defined \(the nearest name is big\)"
    ):
        GROUNDING.build_stage("generate", config, [])


def test_ingest_needs_input():
    with pytest.raises(ConfigError, match="stage ingest needs --input"):
        GROUNDING.build_stage("ingest", GROUNDING.config(), [])
