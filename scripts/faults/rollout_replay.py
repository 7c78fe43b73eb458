"""Record the rollouts of one run and replay them in others, so that the final weights can be compared.

verl imports this module in every process of a run (VERL_USE_EXTERNAL_MODULES). With LONGRL_ROLLOUTS_KEPT=FOLDER tokens,
their probabilities and stop reasons are written there. With LONGRL_ROLLOUTS_REPLAYED=FOLDER vLLM still generates, so
that faults affect it, but the output is replaced by the recorded one of the same prompt. Requests for the same prompt
are distinguished by their order, in which verl's agent loop sends them.
"""

import functools
import hashlib
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

RECORD, REPLAY = "LONGRL_ROLLOUTS_KEPT", "LONGRL_ROLLOUTS_REPLAYED"
FIELDS = ("token_ids", "log_probs", "stop_reason")

Generate = Callable[..., Awaitable[Any]]
"""verl's `LLMServerClient.generate`."""


def recording(generate: Generate, folder: Path) -> Generate:
    """Wrap generate so that it also writes each output to the folder."""
    requests: Counter[str] = Counter()

    @functools.wraps(generate)
    async def generate_and_record(self: Any, request_id: str, *, prompt_ids: list[int], **rest: Any) -> Any:
        prompt = _key(prompt_ids)
        number, requests[prompt] = requests[prompt], requests[prompt] + 1
        output = await generate(self, request_id, prompt_ids=prompt_ids, **rest)
        text = json.dumps({name: getattr(output, name) for name in FIELDS})
        (folder / f"{prompt}.{number}.json").write_text(text)
        return output

    return generate_and_record


def replaying(generate: Generate, folder: Path) -> Generate:
    """Wrap generate so that it returns recorded outputs. The last one of a prompt is followed by the first."""
    requests: Counter[str] = Counter()

    @functools.wraps(generate)
    async def generate_and_replace(self: Any, request_id: str, *, prompt_ids: list[int], **rest: Any) -> Any:
        prompt = _key(prompt_ids)
        number, requests[prompt] = requests[prompt], requests[prompt] + 1
        output = await generate(self, request_id, prompt_ids=prompt_ids, **rest)
        count = len(list(folder.glob(f"{prompt}.*.json")))
        for name, value in json.loads((folder / f"{prompt}.{number % count}.json").read_text()).items():
            setattr(output, name, value)
        return output

    return generate_and_replace


def _key(prompt_ids: list[int]) -> str:
    return hashlib.blake2b(json.dumps(list(prompt_ids)).encode(), digest_size=8).hexdigest()


def _install(wrapper: Callable[[Generate, Path], Generate], folder: str) -> None:
    from verl_longrl.rollout.client import PromptAffinityClient

    PromptAffinityClient.generate = wrapper(PromptAffinityClient.generate, Path(folder))


for variable, wrapper in ((RECORD, recording), (REPLAY, replaying)):
    if variable in os.environ:
        _install(wrapper, os.environ[variable])
