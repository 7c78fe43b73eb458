"""LongRL's rewards as a verl reward manager: each response is scored as soon as it is generated.

verl calls `run_single` for every finished rollout, from asyncio, while others are still being generated. verl's default
manager runs scorers in threads, where one stuck regular expression holds the interpreter lock and stops everything.
Here a scorer runs in a process that can be killed, and the judge is asked asynchronously. Nothing raises: a rollout
whose reward raises would vanish from its group, so a failure is returned as a score with its status.
"""

import asyncio
import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

from omegaconf import OmegaConf
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from verl import DataProto
from verl_longrl import secrets
from verl_longrl.config import LongRLConfig
from verl_longrl.data.schema import decode_extra_info, decode_ground_truth
from verl_longrl.rewards import score_async
from verl_longrl.rewards.isolation.scorer_pool import IsolatedScorer
from verl_longrl.rewards.tasks.golongrl import task_name
from verl_longrl.secrets import redact


class LongRLRewardManager(RewardManagerBase):
    """Score rollouts for verl: `run_single(data)` -> {"reward_score", "reward_extra_info"}.

    reward_extra_info has the numbers of `Score.metrics` and, as text, task, status and reason and, as JSON, `own_parts`
    (the scorer's extra parts), `cited_ids` and `judge` (`Judgement`, or null). The keys are the same for every sample,
    as verl's batches and validation require; verl skips columns of text.

    There is one manager in each of `reward.num_workers` processes. Its judge gets an equal share of
    `longrl.judge.concurrency`, rounded up.
    """

    def __init__(
        self,
        config: Any,
        tokenizer: Any,
        compute_score: Any = None,
        reward_router_address: str | None = None,
        reward_model_tokenizer: Any = None,
    ) -> None:
        super().__init__(config, tokenizer, compute_score)
        block: Any = OmegaConf.to_container(config.longrl, resolve=True)
        longrl = LongRLConfig.from_dict(block)
        self.options = longrl.reward
        self.decode: Callable[..., str] = tokenizer.decode
        self.max_response_tokens = config.data.max_response_length
        self.isolation = IsolatedScorer(self.options)
        self.judge = None
        if self.options.answer.by != "rule":
            from verl_longrl.rewards.judge.client import JudgeClient

            concurrency = math.ceil(longrl.judge.concurrency / config.reward.num_workers)
            judge = dataclasses.replace(longrl.judge, concurrency=concurrency)
            if self.options.answer.by == "reward_model":
                router = (f"http://{reward_router_address}/v1",)
                judge = dataclasses.replace(judge, endpoints=router, api_key_env=secrets.HTTP_KEY)
            self.judge = JudgeClient(judge)

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """Score the last response of a rollout. data: one row per output of the agent loop, responses right-padded."""
        item = data[-1]
        response_ids = item.batch["responses"]
        length = int(item.batch["attention_mask"][-response_ids.shape[-1] :].sum())
        response = await asyncio.to_thread(self.decode, response_ids[:length], skip_special_tokens=True)
        fields = item.non_tensor_batch
        extra_info = decode_extra_info(fields.get("extra_info"))
        score = await score_async(
            fields["data_source"],
            response,
            decode_ground_truth(fields["reward_model"]),
            extra_info,
            options=self.options,
            isolation=self.isolation,
            judge=self.judge,
            truncated=length >= self.max_response_tokens,
        )
        parts = score.metrics()
        # verl's validation has its own column named `reward`.
        parts["score"] = parts.pop("reward")
        return {
            "reward_score": score.value,
            "reward_extra_info": {
                **parts,
                "task": task_name(fields["data_source"], extra_info),
                "status": score.status,
                "reason": redact(score.reason),
                "own_parts": score.extra_parts(),
                "cited_ids": json.dumps(score.cited_ids),
                "judge": json.dumps(score.judgement and score.judgement._asdict()),
            },
        }
