"""Registers everything that LongRL adds to verl at import time, when this module is imported.

verl loads the entry point group `verl.plugins` at the end of its own `__init__` in every process. It skips a plugin
that fails, with only a DEBUG line. So `LOADED` is set last, and the preflight and the task runner call `check()`:
importing this module there raises the error that verl swallowed.
"""

from verl.plugin.platform import get_platform

from verl_longrl import network, secrets
from verl_longrl.platform import cpu, vllm_cpu
from verl_longrl.trainer import prompt_store, transfer_queue_liveness

LOADED = False


def check() -> None:
    """Raise RuntimeError unless LongRL's plugin is fully registered in this process."""
    if not LOADED:
        raise RuntimeError("verl_longrl.plugin did not finish loading; `import verl_longrl.plugin` shows why")


def register() -> None:
    """The entry point's object; importing this module has already done the work."""


secrets.load()
vllm_cpu.alias_distribution()
if get_platform().device_name == "cpu":
    cpu.activate()
prompt_store.register()
transfer_queue_liveness.register()
network.register()
LOADED = True
