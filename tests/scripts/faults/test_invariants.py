"""Each invariant finds its violation, and nothing in a run without one."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from faults import invariants
from faults.actions import flip_bit
from safetensors.torch import save_file
from verl_longrl.trainer.rollout_log import prompt_key


def test_a_run_without_violations(new_trial):
    assert invariants.find_violations(new_trial("one"), new_trial("reference")) == []


def edit_file(name, change):
    """A function that changes the text of a file in the run's folder."""

    def damage(trial):
        path = trial.output / name
        path.write_text(change(path.read_text()))

    return damage


def add_failed_start(trial):
    trial.starts.append(SimpleNamespace(**{**vars(trial.starts[0]), "status": 75}))


def monitor_reports(**values):
    return lambda trial: vars(trial.starts[0].monitor).update(values)


def change_weights(trial):
    save_file({"weight": torch.full((10,), 1.1)}, trial.output / "export" / "model.safetensors")


def write_secret(name):
    def damage(trial):
        path = trial.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"reason": "no such key: Bearer {trial.secrets["OPENAI_API_KEY"]}"}}\n')

    return damage


METRICS = "metrics.jsonl"
STEP_6 = '{"split": "train", "step": 6}\n'
CASES = {
    "another status": (lambda trial: vars(trial.starts[0]).update(status=1), "ended: start 1 ended with 1, expected 0"),
    "never complete": (add_failed_start, "ended: not complete after 2 of 4 starts"),
    "a traceback": (
        lambda trial: (trial.folder / "console-1.txt").write_text(
            "Traceback (most recent call last):\n  File x\nKeyError: 'x'\n"
        ),
        "console: console-1.txt, line 1: a traceback of KeyError: 'x'",
    ),
    "a step twice": (
        edit_file(METRICS, lambda text: text + STEP_6),
        "metrics.jsonl has the steps [1, 2,",
    ),
    "a step missing": (
        edit_file(METRICS, lambda text: text.replace(STEP_6, "")),
        "has the steps [1, 2, 3, 4, 5]",
    ),
    "a NaN": (
        edit_file(METRICS, lambda text: text.replace("6", "NaN")),
        "metrics.jsonl, line 6: NaN is not JSON",
    ),
    "NUL bytes": (
        edit_file(METRICS, lambda text: "\0" * 9 + "\n" + text),
        "metrics.jsonl, line 1",
    ),
    "half a line": (
        edit_file(METRICS, lambda text: text + '{"spl'),
        "metrics.jsonl ends in the middle of a line",
    ),
    "a rollout missing": (
        edit_file("rollouts/train/3.jsonl", lambda text: text.partition("\n")[2]),
        "rollouts: step 3 has 15 rollouts",
    ),
    "rollouts missing": (
        lambda trial: (trial.output / "rollouts/train/3.jsonl").unlink(),
        "rollouts: FileNotFoundError",
    ),
    "an unknown prompt": (
        edit_file("rollouts/prompts.jsonl", lambda text: text.partition("\n")[2]),
        f"rollouts: step 1 has prompts whose texts are not stored: {prompt_key('prompt 0')}",
    ),
    "a text missing": (
        edit_file("rollouts/prompts/000.jsonl", lambda text: text.replace('"prompt 0"', '"prompt X"')),
        f"rollouts: step 1 has prompts whose texts are not stored: {prompt_key('prompt 0')}",
    ),
    "a rollout missing in the index": (
        edit_file("rollouts/index.jsonl", lambda text: text.partition("\n")[2]),
        "rollouts: the index has 15 rollouts of step 1, or others than its file",
    ),
    "another response": (
        edit_file("rollouts/train/2.jsonl", lambda text: text.replace("4e", "5e", 1)),
        "order: step 2 has different prompts or responses",
    ),
    "other weights": (change_weights, "weights: the weights differ by 0.1 of their change by training"),
    "no export": (lambda trial: shutil.rmtree(trial.output / "export"), "weights: FileNotFoundError"),
    "a flipped bit": (flip_bit("actor/model_world_size_1_rank_0.pt"), "is damaged"),
    "no newest checkpoint": (
        lambda trial: shutil.rmtree(trial.checkpoints / "global_step_6"),
        "checkpoint: the newest complete checkpoint is",
    ),
    "another tracker": (
        lambda trial: (trial.checkpoints / "latest_checkpointed_iteration.txt").write_text("4"),
        "latest_checkpointed_iteration.txt says '4'",
    ),
    "too many checkpoints": (
        lambda trial: shutil.copytree(trial.checkpoints / "global_step_4", trial.checkpoints / "global_step_2"),
        "checkpoint: 3 checkpoints are kept, expected 2",
    ),
    "a leftover": (
        lambda trial: (trial.output / ".export.partial").mkdir(),
        "tidy: run/.export.partial was left behind",
    ),
    "a process": (
        lambda trial: vars(trial.starts[0].family).update(
            find_survivors=lambda: [SimpleNamespace(pid=7, name=lambda: "raylet")]
        ),
        "processes: a process was left behind: 7 raylet",
    ),
    "a socket": (
        monitor_reports(left_behind=lambda: ["/dev/shm/sem.loky-7"]),
        "machine: /dev/shm/sem.loky-7 was left behind",
    ),
    "a key in ps": (monitor_reports(exposed={"HF_TOKEN"}), "secret: HF_TOKEN was on a command line"),
    "a key in a log": (write_secret("run/rollouts/extra.jsonl"), "contains OPENAI_API_KEY"),
    "an open port": (
        monitor_reports(reachable={"0.0.0.0:80 of raylet"}),
        "ports: other machines could connect to 0.0.0.0:80 of raylet",
    ),
    "a touched file": (
        lambda trial: (trial.folder / "run/checkpoints/best_so_far/weights.bin").write_text(""),
        "user_files: run/checkpoints/best_so_far/weights.bin was changed",
    ),
    "a removed file": (
        lambda trial: shutil.rmtree(trial.folder / "beside"),
        "user_files: beside/notes.txt was changed",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_damage_is_found(new_trial, monkeypatch, case):
    monkeypatch.setattr("faults.trial.EXIT_TIMEOUT_S", 0.0)
    damage, message = CASES[case]
    trial, reference = new_trial("one"), new_trial("reference")
    damage(trial)
    violations = invariants.find_violations(trial, reference)
    assert any(message in line for line in violations), violations


@pytest.mark.parametrize(
    ("name", "is_violation"), [("longrl-0/torchinductor", False), ("longrl-0/abc", True), ("x", True)]
)
def test_the_temporary_folder_has_only_the_users_shared_one(new_trial, name, is_violation):
    trial = new_trial("one")
    (trial.temporary / name).mkdir(parents=True)
    assert bool(list(invariants.machine(trial, trial))) == is_violation


def test_lines_that_the_fault_tore_are_not_violations(new_trial):
    trial = new_trial("one")
    edit_file(METRICS, lambda text: '{"spl\n' + text)(trial)
    assert list(invariants.find_violations(trial, new_trial("reference")))
    trial.torn.add("metrics.jsonl")
    assert invariants.find_violations(trial, new_trial("again")) == []


def test_skipped_invariants_are_not_checked(new_trial):
    trial, reference = new_trial("one"), new_trial("reference")
    change_weights(trial)
    assert invariants.find_violations(trial, reference, frozenset({"weights"})) == []
