"""A supervised run is refused before it starts, with the key, the value and the fix; open settings are chosen."""

from __future__ import annotations

from pathlib import Path

import pytest
from verl_longrl.data.demonstrations import Demonstration, write_demonstrations

from recipe.longrl.settings import SettingsError
from recipe.longrl.sft.options import SftOptions

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's model without training, and eight demonstrations."""
    from itertools import islice

    from recipe.longrl.demo.grounded import dataset
    from recipe.longrl.demo.grounded.build import GroundedBuild
    from recipe.longrl.demo.grounded.world import documents, response
    from recipe.longrl.demo.model import build_model, save_model

    folder, build = tmp_path_factory.mktemp("world"), GroundedBuild()
    save_model(build_model(build.tokenizer(), build.circuits, 0), build.tokenizer(), folder / "model")
    made = list(islice(documents(build.world, "sft"), 8))
    samples = dataset.samples(made, "train")
    responses = (response(question) for document in made for question in document.questions)
    pairs = zip(samples, responses, strict=True)
    write_demonstrations(folder / "demos.parquet", (Demonstration(*pair) for pair in pairs))
    return folder


@pytest.fixture
def check(world: Path, composed, tmp_path: Path):
    """check(overrides, options) -> the configuration, and the lines by name and status."""
    from recipe.longrl.sft.checks import check_run

    def run(*overrides: str, **options):
        model, output = f"actor_rollout_ref.model.path={world / 'model'}", f"longrl.output_dir={tmp_path / 'run'}"
        hardware = () if any(override.startswith("hardware=") for override in overrides) else ("hardware=cpu",)
        config = composed(model, output, *hardware, *overrides)
        given = {"train_files": (str(world / "demos.parquet"),), "batch_size": 4, **options}
        checked = check_run(config, SftOptions(**given), dry_run=True)
        return config, checked, {(line.name, line.status): line.detail for line in checked.checks}

    return run


def test_what_is_open_on_a_cpu_is_chosen(check):
    config, checked, lines = check(epochs=3)
    assert not any(status == "FAIL" for _, status in lines), lines
    assert (checked.steps, config.trainer.n_gpus_per_node) == (6, 1)
    assert config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu >= 1024
    assert config.data.end_of_turn == 1
    assert "<|im_end|> ends a response" in lines["end of turn", "ok"]
    assert lines["engine", "ok"].startswith("shared_prompt")
    assert "ok, 8 rows" in lines["sft.train_files", "ok"]


@pytest.mark.parametrize(
    ("overrides", "options", "name", "problem"),
    [
        (["trainer.n_gpus_per_node=3"], {}, "batch", "sft.batch_size = 4: must be a multiple of the 3 data-parallel"),
        ([], {"batch_size": 9}, "plan", "sft.batch_size = 9: only 8 demonstrations"),
        (["data.max_response_length=12"], {}, "sft.train_files", "row 0: response has"),
        (["data.max_prompt_length=70"], {}, "sft.train_files", "max_prompt_length = 70"),
        (["actor_rollout_ref.actor.ppo_max_token_len_per_gpu=64"], {}, "batch", "ppo_max_token_len_per_gpu = 64"),
        ([], {"train_files": ("missing.parquet",)}, "sft.train_files", "no such file"),
        (["longrl.reward.scorers=[no_such_module]"], {}, "scorers", "no_such_module"),
    ],
)
def test_what_cannot_run_is_named(check, overrides: list[str], options: dict, name: str, problem: str):
    *_, lines = check(*overrides, **options)
    assert problem in lines[name, "FAIL"]


@pytest.mark.parametrize(
    ("overrides", "options", "message"),
    [
        ([], {"train_files": ()}, r"sft.train_files must be given. Fix: sft.train_files="),
        (["trainer.nnodes=2"], {}, r"trainer.nnodes = 2: supervised fine-tuning runs on one node"),
        (["hardware=128gpu-megatron"], {}, "strategy = megatron: supervised fine-tuning needs FSDP"),
    ],
)
def test_what_cannot_be_composed_is_refused(check, overrides: list[str], options: dict, message: str):
    with pytest.raises(SettingsError, match=message):
        check(*overrides, **options)
