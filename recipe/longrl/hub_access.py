"""Check once whether the Hugging Face hub can be reached, and work offline in this process if not.

The hub's client retries every file for half a minute, and checking a model requests many files. So before a model that
is not a folder is read, one short request is sent to the hub. If the hub does not answer, the client is set to offline
mode and uses only its cache. Other processes decide for themselves.
"""

import functools
import os
import threading

TIMEOUT_S = 5.0
"""For the whole check: resolving the name, connecting, and waiting for the answer."""


def is_hub_name(model: str) -> bool:
    """Whether `model` is a name on the hub (NAME or OWNER/NAME), rather than a folder, a file or a URL."""
    return model.count("/") <= 1 and not model.startswith(("/", ".", "~")) and not os.path.exists(model)


def is_offline(model: str) -> bool:
    """Whether `model` is a name on the hub and the hub cannot be used: HF_HUB_OFFLINE is set, or it does not answer.

    If the hub does not answer, this process becomes offline.
    """
    from huggingface_hub import constants

    if not is_hub_name(model):
        return False
    if not constants.HF_HUB_OFFLINE and not _answers(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = True
    return bool(constants.HF_HUB_OFFLINE)


def explain_offline(model: str) -> str:
    """Why a model cannot be read offline, and the fix."""
    from huggingface_hub import constants

    by_setting = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE")
    reason = "HF_HUB_OFFLINE is set" if by_setting else f"{constants.ENDPOINT} does not answer from here"
    return (
        f"{reason}, and {model} is not in the cache ({constants.HF_HUB_CACHE}). Fix: give the model's folder as "
        f"MODEL_PATH or actor_rollout_ref.model.path, or run `hf download {model}` on a machine with internet access "
        "and use that cache with HF_HUB_OFFLINE=1"
    )


@functools.cache
def _answers(endpoint: str) -> bool:
    """Whether the hub answers a request without a server error. Uses the proxy of the environment."""
    import httpx

    answers = []

    def send_request() -> None:
        try:
            answers.append(httpx.head(endpoint, timeout=TIMEOUT_S).status_code < 500)
        except (httpx.HTTPError, httpx.InvalidURL):
            answers.append(False)

    # httpx applies its timeout to each address of a name, so a thread enforces the total.
    thread = threading.Thread(target=send_request, daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    return any(answers)
