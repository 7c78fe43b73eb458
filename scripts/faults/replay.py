"""Makes rollouts the same in every run, so that the weights they end with can be compared.

verl imports this module in every process of a run (VERL_USE_EXTERNAL_MODULES). With LONGRL_ROLLOUTS_KEPT=FOLDER the
tokens, their probabilities and why they end are written there; with LONGRL_ROLLOUTS_REPLAYED=FOLDER vLLM generates as
ever, so what happens to it happens, but the answer is the kept one of the same prompt. A prompt's requests are told
apart by their order, in which verl's agent loop makes them.
"""

import functools
import hashlib
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

KEEP, REPLAY = "LONGRL_ROLLOUTS_KEPT", "LONGRL_ROLLOUTS_REPLAYED"
FIELDS = ("token_ids", "log_probs", "stop_reason")

Generate = Callable[..., Awaitable[Any]]
"""verl's `LLMServerClient.generate`."""


def keeping(generate: Generate, folder: Path) -> Generate:
    """Writes each output to the folder, too."""
    asked: Counter[str] = Counter()

    @functools.wraps(generate)
    async def generate_and_keep(self: Any, request_id: str, *, prompt_ids: list[int], **rest: Any) -> Any:
        prompt = _key(prompt_ids)
        number, asked[prompt] = asked[prompt], asked[prompt] + 1
        output = await generate(self, request_id, prompt_ids=prompt_ids, **rest)
        text = json.dumps({name: getattr(output, name) for name in FIELDS})
        (folder / f"{prompt}.{number}.json").write_text(text)
        return output

    return generate_and_keep


def replaying(generate: Generate, folder: Path) -> Generate:
    """Replaces each output by the kept one; a prompt that is asked again gets the same ones from the first on."""
    asked: Counter[str] = Counter()

    @functools.wraps(generate)
    async def generate_and_replace(self: Any, request_id: str, *, prompt_ids: list[int], **rest: Any) -> Any:
        prompt = _key(prompt_ids)
        number, asked[prompt] = asked[prompt], asked[prompt] + 1
        output = await generate(self, request_id, prompt_ids=prompt_ids, **rest)
        kept = len(list(folder.glob(f"{prompt}.*.json")))
        for name, value in json.loads((folder / f"{prompt}.{number % kept}.json").read_text()).items():
            setattr(output, name, value)
        return output

    return generate_and_replace


def _key(prompt_ids: list[int]) -> str:
    return hashlib.blake2b(json.dumps(list(prompt_ids)).encode(), digest_size=8).hexdigest()


def _install(wrapper: Callable[[Generate, Path], Generate], folder: str) -> None:
    from verl_longrl.rollout.client import PromptAffinityClient

    PromptAffinityClient.generate = wrapper(PromptAffinityClient.generate, Path(folder))


for variable, wrapper in ((KEEP, keeping), (REPLAY, replaying)):
    if variable in os.environ:
        _install(wrapper, os.environ[variable])
