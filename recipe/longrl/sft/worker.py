"""One trainer rank of a supervised run, started by torchrun: `python -m recipe.longrl.sft.worker CONFIG`."""

import os
import sys

from omegaconf import OmegaConf

from recipe.longrl.parent_death import end_with_parent
from recipe.longrl.sft.ranks import PARENT


def main() -> None:
    """Train as the configuration says, in this rank."""
    end_with_parent(int(os.environ[PARENT]))
    from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group
    from verl_longrl import plugin
    from verl_longrl.trainer.write_access import allow_only_owner_to_write

    from recipe.longrl.sft.trainer import DemonstrationTrainer

    plugin.check()
    config = OmegaConf.load(sys.argv[1])
    if not config.longrl.trust_folder:
        allow_only_owner_to_write()
    initialize_global_process_group()
    try:
        DemonstrationTrainer(config).fit()
    finally:
        destroy_global_process_group()


if __name__ == "__main__":
    main()
