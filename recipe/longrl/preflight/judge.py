"""Check the judge that grades answers: its endpoints respond, or verl can serve its model."""

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


def check_judge(config: DictConfig, longrl: LongRLConfig) -> Iterator[Check]:
    """One line if a judge grades answers, none if a rule does."""
    if longrl.reward.answer.by == "judge":
        yield check_endpoints(longrl)
    if longrl.reward.answer.by == "reward_model":
        yield _check_served_judge(config.reward.reward_model)


def check_endpoints(longrl: LongRLConfig) -> Check:
    """Whether every endpoint of `longrl.judge` responds to this machine and has the model."""
    from verl_longrl.rewards.judge.client import JudgeAway, JudgeClient, JudgeError

    async def query_judge() -> str:
        judge = JudgeClient(longrl.judge)
        try:
            return str(await judge.check())
        finally:
            await judge.close()

    try:
        detail = asyncio.run(query_judge())
    except JudgeAway as error:
        # A run that has completed a step had its judge, and waits for it to come back.
        resumes = (Path(longrl.output_dir) / "metrics.jsonl").is_file()
        if resumes and (minutes := longrl.judge.patience_minutes):
            return Check("judge", "warn", f"{error}; the run starts and waits for it, up to {minutes:g} min")
        return Check("judge", "FAIL", str(error))
    except JudgeError as error:
        return Check("judge", "FAIL", str(error))
    if endpoints := _unencrypted_endpoints(longrl.judge):
        detail = f"{detail}; the key in ${longrl.judge.api_key_env} is sent unencrypted to {', '.join(endpoints)}"
        return Check("judge", "warn", f"{detail}. Fix: https://")
    return Check("judge", "ok", detail)


def _unencrypted_endpoints(judge: JudgeOptions) -> list[str]:
    """The endpoints to which a key is sent over http:// through a public network."""
    if not os.environ.get(judge.api_key_env):
        return []
    return [
        url for url in judge.endpoints if url.startswith("http://") and not _is_private(urlsplit(url).hostname or "")
    ]


def _is_private(host: str) -> bool:
    """Whether all addresses of a host are of this machine or of a private network; also if it has none."""
    try:
        addresses = {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return True
    return all(ipaddress.ip_address(address).is_private for address in addresses)


def _check_served_judge(judge: DictConfig) -> Check:
    """Whether verl can serve the judge: its model is readable, and long enough for a grading prompt."""
    path, length = judge.model_path, judge.rollout.max_model_len
    model_config = OmegaConf.create({"_target_": "verl.workers.config.HFModelConfig", "path": path})
    shape, problems = model.read_model_config("judge", model_config)
    if shape is None:
        return problems[0]
    gpus, tensor_parallel = judge.nnodes * judge.n_gpus_per_node, judge.rollout.tensor_model_parallel_size
    if gpus % tensor_parallel:
        detail = f"reward.reward_model: {gpus} GPUs must be a multiple of rollout.tensor_model_parallel_size"
        fix = "change reward.reward_model.n_gpus_per_node, or the parallel size"
        return Check("judge", "FAIL", f"{detail} = {tensor_parallel}. Fix: {fix}")
    positions = getattr(shape.get_text_config(), "max_position_embeddings", length)
    if length > positions:
        fix = (
            "lower longrl.judge.max_context_chars or longrl.judge.max_tokens, or set "
            "reward.reward_model.rollout.max_model_len"
        )
        detail = f"{path} has {positions} positions, but grading may take {length} tokens"
        return Check("judge", "FAIL", f"{detail}. Fix: {fix}")
    replicas = gpus // tensor_parallel
    detail = f"{path} served by verl: {replicas} replicas on {gpus} GPUs of the judge, {length} tokens"
    return Check("judge", "ok", detail)
