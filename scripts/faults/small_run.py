"""The training of a campaign's runs: the demo's data and model, small, on one logical device, for six steps."""

from pathlib import Path

from recipe.longrl.demo import assets
from recipe.longrl.demo import run as demo
from recipe.longrl.demo.grounded.build import SHORT, GroundedBuild, GroundedStage

STEPS, SAVE_EVERY, CHECKPOINTS_KEPT = 6, 2, 2
PROMPTS, ROLLOUTS = 4, 4
"""Prompts per step, rollouts per prompt."""


def build_assets(folder: Path) -> Path:
    """Build the demo's data and a barely trained model, whose rollouts differ. Takes half a minute."""
    config = GroundedBuild(train_documents=64, val_documents=8, warm_start=(GroundedStage(60, 4, SHORT, 0.5),))
    return assets.build_assets(config, folder)


def batch_overrides() -> list[str]:
    """Hydra overrides for batches that take a second on a CPU."""
    actor, rollout = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
    sizes = [f"data.train_batch_size={PROMPTS}", f"{actor}.ppo_mini_batch_size={PROMPTS}", f"{rollout}.n={ROLLOUTS}"]
    return ["hardware=cpu", *sizes, "data.max_response_length=32"]


def run_overrides(assets: Path, output: Path) -> list[str]:
    """Hydra overrides of a campaign's run, as a user would type them."""
    return [
        *demo.overrides(assets),
        *batch_overrides(),
        "trainer.n_gpus_per_node=1",
        f"longrl.output_dir={output}",
        f"trainer.total_training_steps={STEPS}",
        f"trainer.save_freq={SAVE_EVERY}",
        f"longrl.checkpoints_to_keep={CHECKPOINTS_KEPT}",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
    ]
