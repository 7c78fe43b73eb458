"""Everything LongRL adds to upstream verl, registered on import.

Upstream loads the entry point group `verl.plugins` at the end of its own `__init__` in every process, and skips a
plugin that fails with a DEBUG line. So `LOADED` is set last, and the preflight and the task runner call `check()`.
"""

from verl.plugin.platform import get_platform

from verl_longrl.platform import cpu, vllm_cpu

LOADED = False


def check() -> None:
    """Raise RuntimeError unless this process is running upstream verl with LongRL's plugin fully registered."""
    import verl.experimental.reward_loop.reward_manager as managers

    if not LOADED:
        raise RuntimeError("verl_longrl.plugin did not finish loading; `import verl_longrl.plugin` shows why")
    del managers


def register() -> None:
    """Idempotent; the entry point. All work is done when this module is imported."""


vllm_cpu.alias_distribution()
if get_platform().device_name == "cpu":
    cpu.activate()
LOADED = True
