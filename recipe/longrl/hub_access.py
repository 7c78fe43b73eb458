"""A hub that does not answer is asked once, not sixty times: one short look, then this process works offline.

The hub's client tries every file again for half a minute, and a check of a model asks for many. So the hub is looked at
before a model that is no folder is read. Where it does not answer, the client is told that it is offline, and uses what
is in the cache. Other processes decide for themselves.
"""

import functools
import os
import threading

LOOK_S = 5.0
"""For the whole look: names that do not resolve, addresses that swallow packets, servers that do not answer."""


def is_name(model: str) -> bool:
    """Whether `model` is the name of one on the hub (NAME or OWNER/NAME): no folder or file here, no URL."""
    return model.count("/") <= 1 and not model.startswith(("/", ".", "~")) and not os.path.exists(model)


def offline(model: str) -> bool:
    """Whether `model` is one on the hub and the hub cannot be asked, by choice (HF_HUB_OFFLINE) or because it does not
    answer, which makes this process offline."""
    from huggingface_hub import constants

    if not is_name(model):
        return False
    if not constants.HF_HUB_OFFLINE and not _answers(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = True
    return bool(constants.HF_HUB_OFFLINE)


def why(model: str) -> str:
    """Why a model is not readable offline, and the fix."""
    from huggingface_hub import constants

    chosen = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE")
    reason = "HF_HUB_OFFLINE is set" if chosen else f"{constants.ENDPOINT} does not answer from here"
    return (
        f"{reason}, and {model} is not in the cache ({constants.HF_HUB_CACHE}); give the model's folder as MODEL_PATH "
        f"or actor_rollout_ref.model.path, or run `hf download {model}` where there is internet, then with that cache "
        "HF_HUB_OFFLINE=1"
    )


@functools.cache
def _answers(endpoint: str) -> bool:
    """Whether the hub answers a request, and not with an error of its own. Through the proxy of the environment."""
    import httpx

    answered = []

    def look() -> None:
        try:
            answered.append(httpx.head(endpoint, timeout=LOOK_S).status_code < 500)
        except (httpx.HTTPError, httpx.InvalidURL):
            answered.append(False)

    thread = threading.Thread(target=look, daemon=True)  # for httpx has one deadline for each address of a name
    thread.start()
    thread.join(LOOK_S)
    return any(answered)
