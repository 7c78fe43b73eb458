"""Register our engines with verl when a process that builds a model imports this module (`model.external_lib`).

verl's registry finds an engine by device and vendor, and falls back to its own for a vendor that has none (critics,
other strategies). So the vendor's name in VERL_ENGINE_VENDOR chooses the engine.
"""

from verl.workers.engine import EngineRegistry

from verl_longrl.engine.response_logits import ResponseLogitsEngine
from verl_longrl.engine.shared_prompt import SharedPromptEngine
from verl_longrl.engine.supported import VENDOR

for _name, _engine in (("shared_prompt", SharedPromptEngine), ("response_logits", ResponseLogitsEngine)):
    EngineRegistry.register("language_model", backend="fsdp2", device="cuda", vendor=VENDOR.format(_name))(_engine)
