"""Benchmark the step time of LongRL's entry point, relative to plain `verl.trainer.main_ppo`.

    python scripts/bench/step.py [--rounds 3] [--steps 10]

Both use the same configuration. Plain means verl's own task runner, trainer, data set and naive reward manager, with
the same reward as a plain function and without metrics of reward parts or a rollout log. A step is the wall time from
one step's log entry to the next, so that work after verl's own timer (metrics, rollouts) counts. The first two steps of
each process are not counted.

Processes of both alternate. They train on the same batches in the same order, and batches differ in length, so steps
are compared one by one: the result is the median over steps of ours / plain. Writes docs/results/step_time.json.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

VARIANTS = ("plain", "longrl")


def reward(data_source, solution_str, ground_truth, extra_info=None, **_):
    """The reward of the plain variant: the same scorer, called in verl's thread pool."""
    from verl_longrl.rewards import score

    return {"score": score(data_source, solution_str, ground_truth, extra_info).value}


def train(variant: str, assets: Path, steps: int, log: Path) -> None:
    """Train `steps` steps in this process; write timings of each step to `log` (JSON lines)."""
    from omegaconf import open_dict
    from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
    from verl_longrl.trainer.task_runner import LongRLTaskRunner

    from recipe.longrl import preflight, settings, worker_env
    from recipe.longrl.demo import run as demo

    output = log.with_suffix("")
    overrides = [*demo.overrides(assets), "hardware=cpu", f"longrl.output_dir={output}"]
    overrides += [f"trainer.total_training_steps={steps}", "trainer.save_freq=-1", "trainer.test_freq=-1"]
    overrides += ["trainer.val_before_train=false", "trainer.logger=[file]", "longrl.engine=upstream"]
    config = settings.compose(overrides)
    settings.resolve(config)
    preflight.derive_settings(config)
    if variant == "plain":
        with open_dict(config):
            config.data.custom_cls.path = None
            config.trainer.rollout_data_dir = None
            config.reward.reward_manager.source, config.reward.reward_manager.name = "register", "naive"
            config.reward.custom_reward_function.path = str(Path(__file__).resolve())
            config.reward.custom_reward_function.name = "reward"
    with worker_env.forward_env(config):
        run_ppo(config, task_runner_class=TaskRunnerV1 if variant == "plain" else LongRLTaskRunner)


def wall_times(command: list[str], file: Path) -> list[float]:
    """Run a training. Returns the seconds between the entries that it appends to `file`, one per step."""
    console = file.with_suffix(".txt")
    entry_times: list[float] = []
    with console.open("w") as output:
        environment = {**os.environ, "VERL_FILE_LOGGER_PATH": str(file)}
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            time.sleep(0.02)
            if file.is_file() and file.read_bytes().count(b"\n") > len(entry_times):
                entry_times.append(time.monotonic())
    if process.returncode:
        sys.exit(console.read_text()[-3000:])
    return [later - earlier for earlier, later in itertools.pairwise(entry_times)]


def main(
    rounds: Annotated[int, typer.Option(help="Processes of each variant, alternating.")] = 3,
    steps: Annotated[int, typer.Option(help="Steps per process; the first two are not counted.")] = 10,
    assets: Annotated[Path, typer.Option(help="Assets of the demo.")] = Path("outputs/demo/assets"),
    output: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("docs/results/step_time.json"),
    variant: Annotated[str, typer.Option(hidden=True)] = "",
    log: Annotated[Path, typer.Option(hidden=True)] = Path(),
) -> None:
    """Run the benchmark, print the result and write the JSON."""
    if variant:
        train(variant, assets.resolve(), steps, log)
        return
    if not (assets / "model").is_dir():
        sys.exit(
            f"{assets} has no model. Fix: build it with python -m recipe.longrl.demo.run --dry-run, or set --assets"
        )
    times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for variant in VARIANTS if number % 2 == 0 else VARIANTS[::-1]:
                file = Path(folder) / f"{variant}-{number}.jsonl"
                command = [
                    sys.executable,
                    __file__,
                    "--variant",
                    variant,
                    "--steps",
                    str(steps),
                    "--assets",
                    str(assets),
                ]
                times[variant] += wall_times([*command, "--log", str(file)], file)[1:]
                print(
                    f"round {number + 1}, {variant}: median step {statistics.median(times[variant]):.2f} s", flush=True
                )
    ratios = [ours / plain for plain, ours in zip(*times.values(), strict=True)]
    result = {
        "median_ratio": statistics.median(ratios),
        "ratio_of_sums": sum(times["longrl"]) / sum(times["plain"]),
        "ratios": ratios,
        "seconds": times,
        "command": f"python scripts/bench/step.py --rounds {rounds} --steps {steps}",
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    typer.run(main)
