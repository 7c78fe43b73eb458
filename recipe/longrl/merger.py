"""`python -m recipe.longrl.merger PARENT merge ...`: run verl's model merger as a child of the process PARENT.

It is killed with its parent; otherwise the merger of a killed export would keep running for minutes with the whole
model in memory. It loads FSDP's shards without unpickling code.
"""

import runpy
import sys

from verl_longrl.trainer import safe_loading

from recipe.longrl.parent_death import end_with_parent


def main() -> None:
    """The number of the parent, then verl's command line."""
    end_with_parent(int(sys.argv.pop(1)))
    safe_loading.restrict(sys.argv[sys.argv.index("--backend") + 1] == "fsdp")
    runpy.run_module("verl.model_merger", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
