"""verl's client, which tells the balancer the prompt of a request in 16 bytes instead of all its tokens.

A balancer that declares `prompt_ids` gets them with every request: 100K tokens, to one actor that all requests pass.
Only declared fields are sent, so with verl's balancer this client behaves like verl's.
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
        fields: dict[str, Any] = {"prompt_tokens": len(tokens), "response_tokens": limit}
        # With images and the like, equal tokens do not make equal prompts.
        if not any(extra.get(media) for media in ("image_data", "video_data", "audio_data")):
            fields["prompt_key"] = prompt_key(tokens)
        return await super()._acquire_server(request_id, **extra, **fields)
