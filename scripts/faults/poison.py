"""Makes a weight of the trainer NaN after an update, as broken memory or arithmetic would.

verl imports this module in every process of a run (VERL_USE_EXTERNAL_MODULES); it does something where
LONGRL_CHAOS_NAN_AFTER=N is set: the first weight is NaN from the N-th update of this process on.
"""

import functools
import os
from typing import Any

AFTER = "LONGRL_CHAOS_NAN_AFTER"


def _install(after: int) -> None:
    import torch
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngine

    step, updates = FSDPEngine.optimizer_step, 0

    @functools.wraps(step)
    def step_and_poison(self: Any) -> Any:
        nonlocal updates
        result, updates = step(self), updates + 1
        if updates == after:
            with torch.no_grad():
                next(self.module.parameters()).to_local().view(-1)[0] = torch.nan
        return result

    FSDPEngine.optimizer_step = step_and_poison


if AFTER in os.environ:
    _install(int(os.environ[AFTER]))
