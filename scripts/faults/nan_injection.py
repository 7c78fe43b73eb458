"""Set a weight of the trainer to NaN after an update, as broken memory or arithmetic would.

verl imports this module in every process of a run (VERL_USE_EXTERNAL_MODULES). It acts if LONGRL_CHAOS_NAN_AFTER=N is
set: the first weight is NaN from the N-th update of the process on.
"""

import functools
import os
from types import ModuleType
from typing import Any

from wrapt import when_imported

UPDATE_VARIABLE = "LONGRL_CHAOS_NAN_AFTER"


def _install(module: ModuleType, update: int) -> None:
    import torch

    step, updates = module.FSDPEngine.optimizer_step, 0

    @functools.wraps(step)
    def step_and_set_nan(self: Any) -> Any:
        nonlocal updates
        result, updates = step(self), updates + 1
        if updates == update:
            with torch.no_grad():
                next(self.module.parameters()).to_local().view(-1)[0] = torch.nan
        return result

    module.FSDPEngine.optimizer_step = step_and_set_nan


# Patch when verl imports its engine. That import must come after our plugin has set the platform.
if UPDATE_VARIABLE in os.environ:
    when_imported("verl.workers.engine.fsdp.transformer_impl")(
        functools.partial(_install, update=int(os.environ[UPDATE_VARIABLE]))
    )
