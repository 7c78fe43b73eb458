"""Every invariant sees what it is for, and nothing in a run that is as it must be."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from faults import invariants
from faults.actions import flip_a_bit
from safetensors.torch import save_file


def test_nothing_is_said_of_a_run_that_is_as_it_must_be(new_trial):
    assert invariants.broken(new_trial("one"), new_trial("reference")) == []


def in_file(name, change):
    """Change the text of a file of the run's."""

    def damage(trial):
        path = trial.output / name
        path.write_text(change(path.read_text()))

    return damage


def again(trial):
    trial.starts.append(SimpleNamespace(**{**vars(trial.starts[0]), "status": 75}))


def saw(**what):
    return lambda trial: vars(trial.starts[0].witness).update(what)


def other_weights(trial):
    save_file({"weight": torch.full((10,), 1.1)}, trial.output / "export" / "model.safetensors")


def secret_in(name):
    def damage(trial):
        path = trial.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"reason": "no such key: Bearer {trial.secrets["OPENAI_API_KEY"]}"}}\n')

    return damage


METRICS = "metrics.jsonl"
STEP_6 = '{"split": "train", "step": 6}\n'
CASES = {
    "another status": (lambda trial: vars(trial.starts[0]).update(status=1), "ended: start 1 ended with 1, expected 0"),
    "never at its end": (again, "ended: not at its end after 2 starts of 4"),
    "a traceback": (
        lambda trial: (trial.folder / "console-1.txt").write_text(
            "Traceback (most recent call last):\n  File x\nKeyError: 'x'\n"
        ),
        "terminal: console-1.txt, line 1: a traceback, up to: KeyError: 'x'",
    ),
    "a step twice": (
        in_file(METRICS, lambda text: text + STEP_6),
        "metrics.jsonl has the steps [1, 2,",
    ),
    "a step missing": (
        in_file(METRICS, lambda text: text.replace(STEP_6, "")),
        "has the steps [1, 2, 3, 4, 5]",
    ),
    "a NaN": (
        in_file(METRICS, lambda text: text.replace("6", "NaN")),
        "metrics.jsonl, line 6: NaN is not JSON",
    ),
    "NUL bytes": (
        in_file(METRICS, lambda text: "\0" * 9 + "\n" + text),
        "metrics.jsonl, line 1",
    ),
    "half a line": (
        in_file(METRICS, lambda text: text + '{"spl'),
        "metrics.jsonl ends in the middle of a line",
    ),
    "a rollout missing": (
        in_file("rollouts/3.jsonl", lambda text: text.partition("\n")[2]),
        "rollouts: step 3 has 15 rollouts",
    ),
    "rollouts missing": (lambda trial: (trial.output / "rollouts" / "3.jsonl").unlink(), "rollouts: FileNotFoundError"),
    "an unknown prompt": (
        in_file("rollouts/prompts.jsonl", lambda text: text.partition("\n")[2]),
        "rollouts: step 1 has prompts that are not in prompts.jsonl: prompt 0",
    ),
    "another prompt": (
        in_file("rollouts/2.jsonl", lambda text: text.replace("prompt 4", "prompt 5")),
        "order: step 2 is of other prompts or responses",
    ),
    "other weights": (other_weights, "weights: the weights differ by 0.1 of what training changed"),
    "no export": (lambda trial: shutil.rmtree(trial.output / "export"), "weights: FileNotFoundError"),
    "a flipped bit": (flip_a_bit("actor/model_world_size_1_rank_0.pt"), "is damaged"),
    "no newest checkpoint": (
        lambda trial: shutil.rmtree(trial.checkpoints / "global_step_6"),
        "checkpoint: the newest whole checkpoint is",
    ),
    "another tracker": (
        lambda trial: (trial.checkpoints / "latest_checkpointed_iteration.txt").write_text("4"),
        "latest_checkpointed_iteration.txt says '4'",
    ),
    "too many checkpoints": (
        lambda trial: shutil.copytree(trial.checkpoints / "global_step_4", trial.checkpoints / "global_step_2"),
        "checkpoint: 3 checkpoints are kept, expected 2",
    ),
    "a leftover": (lambda trial: (trial.output / ".export.partial").mkdir(), "tidy: run/.export.partial is left"),
    "a process": (
        lambda trial: vars(trial.starts[0].family).update(left=lambda: [SimpleNamespace(pid=7, name=lambda: "raylet")]),
        "processes: a process is left: 7 raylet",
    ),
    "a socket": (saw(left_behind=lambda: ["/dev/shm/sem.loky-7"]), "machine: /dev/shm/sem.loky-7 is left"),
    "a key in ps": (saw(exposed={"HF_TOKEN"}), "secret: HF_TOKEN was on a command line"),
    "a key in a log": (secret_in("run/rollouts/extra.jsonl"), "has OPENAI_API_KEY"),
    "an open port": (saw(reachable={"0.0.0.0:80 of raylet"}), "ports: another machine could call 0.0.0.0:80 of raylet"),
    "a touched file": (
        lambda trial: (trial.folder / "run/checkpoints/best_so_far/weights.bin").write_text(""),
        "foreign: run/checkpoints/best_so_far/weights.bin was touched",
    ),
    "a removed file": (lambda trial: shutil.rmtree(trial.folder / "beside"), "foreign: beside/notes.txt was touched"),
}


@pytest.mark.parametrize("case", CASES)
def test_damage_is_seen(new_trial, monkeypatch, case):
    monkeypatch.setattr("faults.trial.GONE_WITHIN_S", 0.0)
    damage, told = CASES[case]
    trial, reference = new_trial("one"), new_trial("reference")
    damage(trial)
    said = invariants.broken(trial, reference)
    assert any(told in line for line in said), said


@pytest.mark.parametrize(("name", "told"), [("longrl-0/torchinductor", False), ("longrl-0/abc", True), ("x", True)])
def test_the_temporary_folder_has_this_users_and_no_runs(new_trial, name, told):
    trial = new_trial("one")
    (trial.temporary / name).mkdir(parents=True)
    assert bool(list(invariants.machine(trial, trial))) == told


def test_lines_that_the_fault_tore_are_not_held_against_the_run(new_trial):
    trial = new_trial("one")
    in_file(METRICS, lambda text: '{"spl\n' + text)(trial)
    assert list(invariants.broken(trial, new_trial("reference")))
    trial.torn.add("metrics.jsonl")
    assert invariants.broken(trial, new_trial("again")) == []


def test_what_does_not_hold_of_a_fault_is_not_looked_at(new_trial):
    trial, reference = new_trial("one"), new_trial("reference")
    other_weights(trial)
    assert invariants.broken(trial, reference, frozenset({"weights"})) == []
