"""`python -m recipe.longrl.merger PARENT merge ...`: run verl's model merger as a child of the process PARENT.

It is killed with its parent; otherwise the merger of a killed export would keep running for minutes with the whole
model in memory. It loads FSDP's shards without unpickling code.
"""

import ctypes
import os
import runpy
import signal
import sys

from verl_longrl.trainer import safe_loading

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """The number of the parent, then verl's command line."""
    parent = int(sys.argv.pop(1))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # the parent died before the call above
    safe_loading.restrict(sys.argv[sys.argv.index("--backend") + 1] == "fsdp")
    runpy.run_module("verl.model_merger", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
