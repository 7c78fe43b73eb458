"""`python -m recipe.longrl.merger PARENT merge ...`: verl's model merger, which ends when the process PARENT ends
and reads FSDP's shards as weights alone.

Left alone, the merger of a killed export goes on for minutes, with the whole model in memory.
"""

import ctypes
import os
import runpy
import signal
import sys

from verl_longrl.trainer import safe_loading

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """verl's command line, after the number of the parent."""
    parent = int(sys.argv.pop(1))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        sys.exit(1)
    safe_loading.restrict(sys.argv[sys.argv.index("--backend") + 1] == "fsdp")
    runpy.run_module("verl.model_merger", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
