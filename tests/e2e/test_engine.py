"""Two steps on the same rollouts with verl's engine and with ours: the same losses, gradients and log-probs."""

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
EQUAL = ("actor/entropy", "actor/pg_loss", "actor/kl_loss", "actor/ppo_kl", "actor/pg_clipfrac", "actor/grad_norm")
PROBABILITIES = ("training/rollout_probs_diff_max", "training/rollout_probs_diff_mean")
"""Of the rollout's and the trainer's old probabilities: were the latter others, so would these be."""


def test_two_steps_as_upstream(run, assets, tmp_path):
    rollouts = [
        "skip.rollout_tq.enable=true",  # verl's own: the first run writes its rollouts, the second one reads them
        f"skip.rollout_tq.dump_dir={tmp_path / 'rollouts'}",
        "skip.rollout_tq.steps=[1,2]",
        "trainer.experiment_name=engines",
    ]
    common = ["trainer.total_training_steps=2", "trainer.save_freq=-1", "trainer.test_freq=-1"]
    common += ["trainer.val_before_train=false", "longrl.log_rollouts=false"]
    # Adam makes steps of this size of gradients that are but rounding
    common += ["actor_rollout_ref.actor.optim.lr=1e-5"]
    loss = ["use_kl_loss=true", "kl_loss_coef=0.1", "entropy_coeff=0.01"]
    common += [f"actor_rollout_ref.actor.{key}" for key in loss]
    found = {}
    for engine in ("upstream", "auto"):
        one = type(run)(assets, tmp_path / engine)
        one.folder.mkdir()
        process = one.start(*common, *rollouts, f"longrl.engine={engine}")
        assert one.finish(process) == 0, one.console[-4000:]
        found[engine] = one.rows("train")
        assert [row["step"] for row in found[engine]] == [1, 2]
    for row in found["upstream"]:  # whose rollouts were generated: 4 of a prompt, on one replica
        assert row["rollout/prefill_fraction"] < 0.4
    assert "shared_prompt: each prompt is computed once" in one.console
    for upstream, ours in zip(found["upstream"], found["auto"], strict=True):
        assert ours["reward/score"] == pytest.approx(upstream["reward/score"], abs=1e-9)  # the rollouts are the same
        for name in EQUAL:
            assert ours[name] == pytest.approx(upstream[name], rel=1e-5, abs=1e-5), name
        for name in PROBABILITIES:
            assert ours[name] == pytest.approx(upstream[name], abs=1e-5), name
        assert upstream["actor/grad_norm"] > 0
        assert ours["actor/prompt_sharing"] > 2  # of 4 rollouts
        assert "actor/prompt_sharing" not in upstream
