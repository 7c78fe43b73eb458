"""What a mix is made of, from the command line or from YAML; whatever is wrong is named with its value and the fix."""

from pathlib import Path

import pytest
import yaml

from data_gen.config import ConfigError
from data_gen.document_readers import CorpusError
from data_gen.mix.config import MixConfig, SourceOptions, short_names

A = {"files": "a.jsonl"}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a.parquet", {"files": "a.parquet"}),
        ("a.parquet:weight=2", {"files": "a.parquet", "weight": 2}),
        ("a.jsonl:layout=dapo,count=25,repeat=true", {**A, "layout": "dapo", "count": 25, "repeat": True}),
        ("a:b/c.json", {"files": "a:b/c.json"}),
        ("a:b/c.json:count=1", {"files": "a:b/c.json", "count": 1}),
        ("a=1.json", {"files": "a=1.json"}),
    ],
)
def test_a_source_on_the_command_line(text, values):
    assert SourceOptions.parse(text) == values


def test_the_command_line_goes_before_the_file_and_a_configuration_can_be_written_back(tmp_path):
    file = tmp_path / "mix.yaml"
    written = {"total": 9, "seed": 4, "sources": [{"files": "a.json", "weight": 1}, {"files": ["b.json", "c.json"]}]}
    file.write_text(yaml.safe_dump(written))
    config = MixConfig.load(file, [], seed=None, tokenizer="t")
    assert (config.total, config.seed, config.tokenizer) == (9, 4, "t")
    assert config.sources == (SourceOptions(("a.json",), weight=1), SourceOptions(("b.json", "c.json")))
    assert MixConfig.load(file, ["d.json:weight=3"], seed=5).sources == (SourceOptions(("d.json",), weight=3),)
    file.write_text(config.yaml())
    assert MixConfig.load(file, []) == config


@pytest.mark.parametrize(
    ("sources", "given", "message"),
    [
        ([], {}, r"sources = \[\]: expected files"),
        (["a.json:weight=2"], {}, "total = null: a.json has a weight, which is a share of the total"),
        (["a.json"], {"total": 5}, "total = 5: no source has a weight to share it"),
        (["a.json:count=2,weight=2"], {"total": 5}, r"sources\[0\].weight = 2.0: a.json has a count too \(2\)"),
        (["a.json:count=0"], {}, r"sources\[0\].count = 0: expected a whole number of at least 1"),
        (["a.json:weight=0"], {"total": 5}, r"sources\[0\].weight = 0: expected a number above 0"),
        (["a.json:weight=.nan"], {"total": 5}, r"sources\[0\].weight = nan: expected a number"),
        (["a.json:count=many"], {}, r"sources\[0\].count = 'many': expected a whole number"),
        (["a.json:layout=csv"], {}, r"sources\[0\].layout = 'csv': expected one of auto, rows, dapo, math, mathqa"),
        (["a.json:wieght=2"], {}, r"sources\[0\].wieght = 2: unknown key. .* the nearest is sources\[0\].weight"),
        (["a.json:count=2,all"], {}, "'all': expected KEY=VALUE, as in PATH:weight=2"),
        (["a.json"], {"max_prompt_tokens": 0}, "max_prompt_tokens = 0: expected a whole number of at least 1"),
    ],
)
def test_what_is_wrong_is_said(sources, given, message):
    with pytest.raises(ConfigError, match=message):
        MixConfig.load(None, sources, **given)


def test_what_is_wrong_in_a_file_is_said_with_its_name(tmp_path):
    file = tmp_path / "mix.yaml"
    for text, message in (
        ("- a", "the file is a list; expected keys"),
        ("sources: [{count: 1}]", "a source needs at least one file"),
        ("{", ""),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=f"mix.yaml: .*{message}"):
            MixConfig.load(file, [])
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        MixConfig.load(tmp_path / "none.yaml", [])


def test_patterns_name_files_in_order(tmp_path):
    for name in ("b.json", "a.json", "c[1].json"):
        (tmp_path / name).touch()
    (tmp_path / "folder.json").mkdir()
    paths = [path.name for path in SourceOptions((f"{tmp_path}/*.json",)).paths()]
    assert paths == ["a.json", "b.json", "c[1].json"]
    assert SourceOptions((f"{tmp_path}/c[1].json",)).paths() == [tmp_path / "c[1].json"]
    for missing in ("none.json", "*.txt", "folder.json"):
        with pytest.raises(CorpusError, match=r"no such file. Fix: correct the path, or give a pattern"):
            SourceOptions((f"{tmp_path}/{missing}",)).paths()


def test_names_hold_as_many_folders_as_tell_them_apart():
    files = [Path("x/a/train.parquet"), Path("y/a/train.parquet"), Path("y/b/train.parquet"), Path("math.json")]
    assert list(short_names(files).values()) == [
        "x/a/train.parquet",
        "y/a/train.parquet",
        "b/train.parquet",
        "math.json",
    ]
