"""What every run of the campaign trains: the demo's world, small, on one logical device, for six steps."""

from pathlib import Path

from recipe.longrl.demo import run as demo
from recipe.longrl.demo.build import build
from recipe.longrl.demo.grounded.build import GroundedBuild
from recipe.longrl.demo.grounded.lessons import SHORT, Stage

STEPS, SAVE_EVERY, KEPT = 6, 2, 2
PROMPTS, ROLLOUTS = 4, 4
"""Of a step, and of a prompt."""


def small_assets(folder: Path) -> Path:
    """The demo's data with a model that has barely been warmed up: enough for its rollouts to differ. Half a minute."""
    config = GroundedBuild(train_documents=64, val_documents=8, warm_start=(Stage(60, 4, SHORT, 0.5),))
    return build(config, folder)


def batch() -> list[str]:
    """Hydra overrides for batches that take a second on a CPU."""
    actor, rollout = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
    sizes = [f"data.train_batch_size={PROMPTS}", f"{actor}.ppo_mini_batch_size={PROMPTS}", f"{rollout}.n={ROLLOUTS}"]
    return ["hardware=cpu", *sizes, "data.max_response_length=32"]


def overrides(assets: Path, output: Path) -> list[str]:
    """Hydra overrides of a run of the campaign, as a user would type them."""
    return [
        *demo.overrides(assets),
        *batch(),
        "trainer.n_gpus_per_node=1",
        f"longrl.output_dir={output}",
        f"trainer.total_training_steps={STEPS}",
        f"trainer.save_freq={SAVE_EVERY}",
        f"longrl.checkpoints_to_keep={KEPT}",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
    ]
