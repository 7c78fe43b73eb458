"""Makes a weight of the trainer NaN after an update, as broken memory or arithmetic would.

verl imports this module in every process of a run (VERL_USE_EXTERNAL_MODULES); it does something where
LONGRL_CHAOS_NAN_AFTER=N is set: the first weight is NaN from the N-th update of this process on.
"""

import functools
import os
from types import ModuleType
from typing import Any

from wrapt import when_imported

AFTER = "LONGRL_CHAOS_NAN_AFTER"


def _install(module: ModuleType, after: int) -> None:
    import torch

    step, updates = module.FSDPEngine.optimizer_step, 0

    @functools.wraps(step)
    def step_and_poison(self: Any) -> Any:
        nonlocal updates
        result, updates = step(self), updates + 1
        if updates == after:
            with torch.no_grad():
                next(self.module.parameters()).to_local().view(-1)[0] = torch.nan
        return result

    module.FSDPEngine.optimizer_step = step_and_poison


if AFTER in os.environ:  # when verl imports it, for it looks at the platform, which our plugin sets after this
    when_imported("verl.workers.engine.fsdp.transformer_impl")(
        functools.partial(_install, after=int(os.environ[AFTER]))
    )
