"""verl's client, telling the balancer which prompt a request has in a few bytes instead of all its tokens.

verl would send a declared `prompt_ids` along with every request: 100K tokens to one actor that all requests pass.
Whatever the balancer does not ask for is not sent, so with verl's own this client does what verl's does.
"""

from __future__ import annotations

from typing import Any

from verl.utils import normalize_token_ids
from verl.workers.rollout.llm_server import LLMServerClient

from verl_longrl.rollout.affinity import prompt_key


class PromptAffinityClient(LLMServerClient):
    """For `LLMServerManager.get_client(client_cls=PromptAffinityClient)`."""

    async def _acquire_server(self, request_id: str, **extra: Any) -> tuple[str, Any]:
        tokens = normalize_token_ids(extra["prompt_ids"])
        sampling, rollout = extra["sampling_params"], self.config.actor_rollout_ref.rollout
        limit = sampling.get("max_tokens", sampling.get("max_new_tokens", rollout.response_length))
        about: dict[str, Any] = {"prompt_tokens": len(tokens), "response_tokens": limit}
        if not any(extra.get(media) for media in ("image_data", "video_data", "audio_data")):
            about["prompt_key"] = prompt_key(tokens)  # with pictures, equal tokens are no equal prompt
        return await super()._acquire_server(request_id, **extra, **about)
