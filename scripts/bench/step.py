"""Step time of our entry point against plain `verl.trainer.main_ppo`, same configuration, in one run, alternating.

    python scripts/bench/step.py [--rounds 3] [--steps 8]

Plain means: verl's own task runner, trainer, data set and (naive) reward manager, with the same reward as a plain
function, and neither metrics of reward parts nor rollout log. A step is the wall time from one step's log entry to the
next, so that what happens after verl's own timer (metrics, rollouts) counts; the first two steps of each process
do not. Which side goes first alternates. Both sides train on the same batches in the same order, and batches differ in
length, so steps are compared one by one: the figure is the median over steps of ours / plain. Writes
docs/results/step_time.json.
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

KINDS = ("plain", "longrl")


def reward(data_source, solution_str, ground_truth, extra_info=None, **_):
    """The reward of the plain side: the same scorer, called in verl's thread pool."""
    from verl_longrl.rewards import score

    return {"score": score(data_source, solution_str, ground_truth, extra_info).value}


def train(kind: str, assets: Path, steps: int, log: Path) -> None:
    """One process: train `steps` steps, per-step timings into `log` (JSON lines)."""
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
    preflight.decide(config)
    if kind == "plain":
        with open_dict(config):
            config.data.custom_cls.path = None
            config.trainer.rollout_data_dir = None
            config.reward.reward_manager.source, config.reward.reward_manager.name = "register", "naive"
            config.reward.custom_reward_function.path = str(Path(__file__).resolve())
            config.reward.custom_reward_function.name = "reward"
    with worker_env.carrying(config):
        run_ppo(config, task_runner_class=TaskRunnerV1 if kind == "plain" else LongRLTaskRunner)


def wall_times(command: list[str], file: Path) -> list[float]:
    """Run a training; seconds between the entries it appends to `file`, one per step."""
    console = file.with_suffix(".txt")
    at: list[float] = []
    with console.open("w") as output:
        environment = {**os.environ, "VERL_FILE_LOGGER_PATH": str(file)}
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            time.sleep(0.02)
            if file.is_file() and file.read_bytes().count(b"\n") > len(at):
                at.append(time.monotonic())
    if process.returncode:
        sys.exit(console.read_text()[-3000:])
    return [later - earlier for earlier, later in itertools.pairwise(at)]


def main(
    rounds: Annotated[int, typer.Option(help="Processes per side, alternating.")] = 3,
    steps: Annotated[int, typer.Option(help="Steps per process; the first two are not counted.")] = 10,
    assets: Annotated[Path, typer.Option(help="The demo's assets.")] = Path("outputs/demo/assets"),
    output: Annotated[Path, typer.Option(help="Result file.")] = Path("docs/results/step_time.json"),
    one: Annotated[str, typer.Option(hidden=True)] = "",
    log: Annotated[Path, typer.Option(hidden=True)] = Path(),
) -> None:
    """Measure and print the ratio."""
    if one:
        train(one, assets.resolve(), steps, log)
        return
    if not (assets / "model").is_dir():
        sys.exit(f"{assets} has no model. Fix: python -m recipe.longrl.demo.run --dry-run makes it; or --assets FOLDER")
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for kind in KINDS if number % 2 == 0 else KINDS[::-1]:
                file = Path(folder) / f"{kind}-{number}.jsonl"
                command = [sys.executable, __file__, "--one", kind, "--steps", str(steps), "--assets", str(assets)]
                times[kind] += wall_times([*command, "--log", str(file)], file)[1:]
                print(f"round {number + 1}, {kind}: median step {statistics.median(times[kind]):.2f} s", flush=True)
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
