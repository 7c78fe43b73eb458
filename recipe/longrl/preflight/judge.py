"""The judge of answers: the endpoints answer, or the model that verl will serve is readable and fits."""

import asyncio
import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf
from verl_longrl.config import LongRLConfig
from verl_longrl.rewards.options import JudgeOptions

from recipe.longrl.preflight import model
from recipe.longrl.preflight.check import Check


def checks(config: DictConfig, longrl: LongRLConfig) -> Iterator[Check]:
    """One line if a judge decides about answers, none if a rule does."""
    if longrl.reward.answer.by == "judge":
        yield endpoints(longrl)
    if longrl.reward.answer.by == "reward_model":
        yield _served(config.reward.reward_model)


def endpoints(longrl: LongRLConfig) -> Check:
    from verl_longrl.rewards.judge.client import JudgeAway, JudgeClient, JudgeError

    async def ask() -> str:
        judge = JudgeClient(longrl.judge)
        try:
            return str(await judge.check())
        finally:
            await judge.close()

    try:
        detail = asyncio.run(ask())
    except JudgeAway as error:
        begun = (Path(longrl.output_dir) / "metrics.jsonl").is_file()  # so it has answered
        if begun and (minutes := longrl.judge.patience_minutes):
            return Check("judge", "warn", f"{error}; the run goes on and waits for it, up to {minutes:g} min")
        return Check("judge", "FAIL", str(error))
    except JudgeError as error:
        return Check("judge", "FAIL", str(error))
    if open_to_listeners := _in_the_clear(longrl.judge):
        detail = f"{detail}; the key in ${longrl.judge.api_key_env} goes to {', '.join(open_to_listeners)} unencrypted"
        return Check("judge", "warn", f"{detail}, for all on the way to read. Fix: https://")
    return Check("judge", "ok", detail)


def _in_the_clear(judge: JudgeOptions) -> list[str]:
    """The endpoints that are sent a key over http:// through networks that are not private."""
    if not os.environ.get(judge.api_key_env):
        return []
    return [url for url in judge.endpoints if url.startswith("http://") and not _private(urlsplit(url).hostname or "")]


def _private(host: str) -> bool:
    """Whether all addresses of a host are of this machine or a private network; also if it has none."""
    try:
        found = {str(address[4][0]).partition("%")[0] for address in socket.getaddrinfo(host, None)}
    except OSError:
        return True
    return all(ipaddress.ip_address(address).is_private for address in found)


def _served(judge: DictConfig) -> Check:
    """The judge that verl serves: its model is readable and long enough for a grading question."""
    path, wanted = judge.model_path, judge.rollout.max_model_len
    as_upstream = OmegaConf.create({"_target_": "verl.workers.config.HFModelConfig", "path": path})
    shape, problems = model.read("judge", as_upstream)
    if shape is None:
        return problems[0]
    gpus, tensor_parallel = judge.nnodes * judge.n_gpus_per_node, judge.rollout.tensor_model_parallel_size
    if gpus % tensor_parallel:
        return Check(
            "judge",
            "FAIL",
            f"reward.reward_model has {gpus} GPUs, no multiple of its rollout.tensor_model_parallel_size = "
            f"{tensor_parallel}; change reward.reward_model.n_gpus_per_node or the latter",
        )
    positions = getattr(shape.get_text_config(), "max_position_embeddings", wanted)
    if wanted > positions:
        return Check(
            "judge",
            "FAIL",
            f"grading may take {wanted} tokens, {path} has {positions} positions; lower longrl.judge.max_context_chars "
            "or longrl.judge.max_tokens, or set reward.reward_model.rollout.max_model_len yourself",
        )
    detail = f"{path} served by verl: {gpus // tensor_parallel} replicas on {gpus} GPUs of their own, {wanted} tokens"
    return Check("judge", "ok", detail)
