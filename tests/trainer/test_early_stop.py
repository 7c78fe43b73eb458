"""A run that ends early saves its state if it can, and otherwise names the checkpoint to resume from."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from ray import exceptions
from verl_longrl.trainer import checkpoints
from verl_longrl.trainer.health import Health, WatchOptions

pytestmark = pytest.mark.engine
STEP = 5
DEAD = exceptions.NodeDiedError("node 10.0.0.3 died")
PEER = RuntimeError("gloo: connection closed by peer")
OF_THE_PROGRAM = ValueError("shapes do not match")


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch):
    """In step 5 of 9, with a whole checkpoint of step 2: all of the trainer but models, engines and Ray. `dead`: what
    Ray's control store says; `ranks_answer`; `fails`: what saving raises."""
    from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
    from verl_longrl.rewards.failure_guard import FailureGuard
    from verl_longrl.trainer import early_stop, resumable
    from verl_longrl.trainer import trainer as module
    from verl_longrl.trainer.interruption import Interruptions
    from verl_longrl.trainer.step_state import ResumePoint, StepState

    one = object.__new__(module.LongRLTrainer)
    one.dead, one.ranks_answer, one.fails, one.not_finite = None, True, None, None

    def save(self) -> None:
        if one.fails is not None:
            raise one.fails
        folder = self._checkpoint_root / f"global_step_{self.global_steps}"
        (folder / "model.pt").write_text("weights")

    monkeypatch.setattr(PPOTrainerSync, "_save_checkpoint", save)
    monkeypatch.setattr(early_stop, "all_answer", lambda ranks, within_s: one.ranks_answer)
    monkeypatch.setattr(early_stop, "DEATH_SEEN_WITHIN_S", 0.0)
    monkeypatch.setattr(resumable.finite_weights, "not_finite", lambda ranks: one.not_finite)
    monkeypatch.setattr(resumable.shards, "write_through", lambda folder, ranks: {})
    one.config = OmegaConf.create({"trainer": {"default_local_dir": str(tmp_path / "checkpoints")}})
    one.longrl = SimpleNamespace(checkpoints_to_keep=None)
    one.actor_rollout_wg = SimpleNamespace(world_size=2, workers=[])
    watch = SimpleNamespace(poll=lambda: ([one.dead] if one.dead else [], []))
    one.interruptions = Interruptions(tmp_path / "stop", watch, print)
    one.health, one.guard = Health(WatchOptions()), FailureGuard(0.25)
    one.advantages = SimpleNamespace(state_dict=lambda: {"of": "this step"})
    one.items, one.groups = SimpleNamespace(waiting=lambda prompts: []), SimpleNamespace(waiting=set())
    one.step_state = StepState(ResumePoint({"at": 4}, [7], {"of": "the step before"}))
    one.total_training_steps, one.global_steps, one._dump_futures = 9, 2, []
    one._save_checkpoint()
    one._seal(one._pop_unsealed())
    one.global_steps = STEP
    return one


def ended(trainer, error, monkeypatch, updated=False):
    """The error that `fit` raises when verl's raises `error` in this step."""
    from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
    from verl_longrl.trainer.early_stop import EarlyStopTrainer

    def fit(self, agent_loop_manager) -> None:
        self.step_state.update_begun = updated
        raise error

    monkeypatch.setattr(PPOTrainerSync, "fit", fit)
    with pytest.raises(Exception) as raised:  # noqa: PT011
        EarlyStopTrainer.fit(trainer, None)
    return raised.value


def whole(trainer) -> list[int]:
    folders = checkpoints.checkpoint_folders(trainer._checkpoint_root)
    return [checkpoints.step_of(folder) for folder in folders if checkpoints.find_damage(folder) is None]


@pytest.mark.parametrize("error", [DEAD, exceptions.OutOfMemoryError("running low on memory"), PEER])
def test_a_death_before_the_update_saves_the_state_before_the_step(trainer, monkeypatch, error):
    from verl_longrl.trainer.interruption import Interrupted

    trainer.dead = "AgentLoopWorker died" if error is PEER else None
    raised = ended(trainer, error, monkeypatch)
    assert isinstance(raised, Interrupted)
    assert str(raised).startswith(f"step {STEP}: ")
    assert str(raised).endswith("global_step_4 is saved; rerun the command to resume from it.")
    assert whole(trainer) == [2, 4]
    folder = trainer._checkpoint_root / "global_step_4"
    assert json.loads((folder / "waiting.json").read_text()) == [7]
    assert json.loads((folder / "advantages.json").read_text()) == {"of": "the step before"}
    assert trainer.global_steps == STEP


def test_an_error_of_the_program_is_raised_as_it_is(trainer, monkeypatch):
    assert ended(trainer, OF_THE_PROGRAM, monkeypatch) is OF_THE_PROGRAM
    assert whole(trainer) == [2]


@pytest.mark.parametrize("case", ["in the update", "a rank is gone", "in doubt", "saving fails"])
def test_what_cannot_be_saved_names_the_checkpoint_to_resume_from(trainer, monkeypatch, case):
    from verl_longrl.trainer.interruption import Interrupted

    trainer.ranks_answer = case != "a rank is gone"
    trainer.fails = OSError(28, "No space left on device") if case == "saving fails" else None
    if case == "in doubt":
        trainer.health.check(4, {"actor/grad_norm": float("nan")})
    raised = ended(trainer, DEAD, monkeypatch, updated=case == "in the update")
    assert isinstance(raised, Interrupted)
    assert "node 10.0.0.3 died" in str(raised)
    assert str(raised).endswith(f"rerun the command to resume from {trainer._checkpoint_root / 'global_step_2'}.")
    says = {
        "in the update": "the update had begun, so nothing could be saved",
        "a rank is gone": "a trainer rank is gone or does not answer, so nothing could be saved",
        "in doubt": "not been finite since step 4, so nothing could be saved",
        "saving fails": "nothing could be saved (OSError: [Errno 28] No space left on device)",
    }
    assert says[case] in str(raised)
    assert whole(trainer) == [2]


def test_weights_that_do_not_reach_a_replica_end_the_run_after_the_step_is_written_down(trainer, monkeypatch):
    from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
    from verl_longrl.trainer.interruption import Interrupted

    def lost(self) -> None:
        raise DEAD

    monkeypatch.setattr(PPOTrainerSync, "on_step_end", lost)
    trainer.on_step_end()
    assert trainer._validate() == {}  # with what? the replicas have old weights
    assert trainer._pending_stop == (Interrupted, f"after step {STEP}: node 10.0.0.3 died")
    trainer.global_steps = trainer.total_training_steps
    with pytest.raises(Interrupted, match="Rerun the command to repeat the last step and its validation"):
        trainer.on_step_end()


@pytest.mark.parametrize("step", [0, STEP])
def test_a_death_while_validating(trainer, monkeypatch, step):
    from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
    from verl_longrl.trainer.interruption import Interrupted

    def lost(self) -> None:
        raise DEAD

    monkeypatch.setattr(PPOTrainerSync, "_validate", lost)
    trainer.global_steps = step
    if step == 0:
        with pytest.raises(Interrupted, match=r"validation at step 0: node .* Rerun the command to start over"):
            trainer._validate()
    else:
        assert trainer._validate() == {}
        assert trainer._pending_stop == (Interrupted, f"validation at step {STEP}: node 10.0.0.3 died")


def test_a_judge_that_was_away_is_an_interruption_and_one_that_refuses_is_not(trainer):
    from verl_longrl.trainer.interruption import Interrupted, TooManyFailures

    def scores(*statuses):
        return [{"status": status, "reason": "why"} for status in statuses]

    trainer._stop_if_scores_failed(scores("ok", "ok", "ok", "judge_away"))
    with pytest.raises(TooManyFailures, match="2 judge_error"):
        trainer._stop_if_scores_failed(scores("ok", "judge_error", "judge_error", "judge_away"))
    with pytest.raises(Interrupted, match=r"2 judge_away\).*global_step_4 is saved; rerun the command"):
        trainer._stop_if_scores_failed(scores("ok", "ok", "judge_away", "judge_away"))


def test_weights_that_are_not_finite_are_never_saved(trainer):
    from verl_longrl.trainer.interruption import Broken

    trainer.not_finite = "weights of rank 1 are not finite: model.norm.weight"
    with pytest.raises(Broken, match=r"rank 1 are not finite: model.norm.weight\. Stopped without saving\.") as error:
        trainer._save_checkpoint()
    good = trainer._checkpoint_root / "global_step_2"
    assert str(error.value).endswith(f"Rerun the command to resume from the last good checkpoint, {good}.")
    assert whole(trainer) == [2]


def test_the_checkpoint_that_is_doubted_is_not_the_last_good_one(trainer):
    health = trainer.health
    health.remember(4, [{"reward/score": 1.2}, {"reward/score": 1.3}])
    trainer.global_steps = 4
    trainer._save_checkpoint()
    trainer._seal(trainer._pop_unsealed())
    trainer.global_steps = STEP
    health.check(STEP, {"reward/score": 0.0, "actor/grad_norm": 0.0, "group/zero_variance_frac": 1.0})
    good = trainer._checkpoint_root / "global_step_2"
    assert str(trainer._broken("why")).endswith(f"is {good}; move the later ones away to resume from it.")
