"""Answer rows with fixed weights and score the answers as in training: same prompts, sampling, decoding and rewards.

Rows are sent to the engines as these become free, and are returned in any order, each when it is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Self

from omegaconf import DictConfig
from verl_longrl.config import LongRLConfig
from verl_longrl.data.schema import Sample, decode_extra_info
from verl_longrl.rewards import score_async
from verl_longrl.rewards.isolation.scorer_pool import IsolatedScorer
from verl_longrl.rewards.judge.client import JudgeClient
from verl_longrl.rewards.tasks.golongrl import task_name

from recipe.longrl import settings
from recipe.longrl.inference.replicas import Replicas


def sampling_of(config: DictConfig, **overrides: Any) -> dict[str, Any]:
    """vLLM's sampling parameters of a run's training rollouts, with `overrides` that are not None."""
    rollout = config.actor_rollout_ref.rollout
    training = {name: rollout[name] for name in ("temperature", "top_p", "top_k", "ignore_eos")}
    changed = {name: value for name, value in overrides.items() if value is not None}
    return {**training, "max_tokens": config.data.max_response_length, **changed}


class Answering:
    """Answers rows and scores the answers. `async with Answering(...) as answering` starts Ray, vLLM and the scorers.

    sampling: vLLM's sampling parameters, with `n` answers per row.
    Raises SettingsError for a judge that verl serves only during training (longrl.reward.answer.by=reward_model).
    """

    def __init__(self, config: DictConfig, longrl: LongRLConfig, sampling: dict[str, Any]) -> None:
        if longrl.reward.answer.by == "reward_model":
            raise settings.SettingsError(
                "longrl.reward.answer.by = reward_model: verl serves this judge only during training. Fix: serve the "
                "judge separately and set longrl.reward.answer.by=judge longrl.judge.endpoints=[...]"
            )
        self.config, self.longrl, self.sampling = config, longrl, sampling
        self.replicas = Replicas(config)
        # Twice the sequences that an engine computes at once, so that it never waits for rows.
        rows_per_replica = 2 * config.actor_rollout_ref.rollout.max_num_seqs // sampling["n"]
        self.max_in_flight = self.replicas.count * max(1, rows_per_replica)

    async def __aenter__(self) -> Self:
        from verl.utils.tokenizer import hf_tokenizer

        model = self.config.actor_rollout_ref.model
        self.tokenizer = hf_tokenizer(model.tokenizer_path or model.path, trust_remote_code=model.trust_remote_code)
        if model.custom_chat_template is not None:
            self.tokenizer.chat_template = model.custom_chat_template
        self.template = settings.plain(self.config.data.apply_chat_template_kwargs)
        self.isolation = await asyncio.to_thread(IsolatedScorer, self.longrl.reward)
        self.judge = JudgeClient(self.longrl.judge) if self.longrl.reward.answer.by == "judge" else None
        await self.replicas.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.replicas.stop()
        self.isolation.close()
        if self.judge is not None:
            await self.judge.close()

    async def lines(self, rows: Iterable[tuple[int, int, Sample]]) -> AsyncGenerator[dict[str, Any]]:
        """A line for each (file, row, sample): file, row, task, answers (the scores' `answer` parts), statuses and
        responses. A prompt longer than data.max_prompt_length is not answered; its line has `too_long`, its tokens."""
        running: set[asyncio.Task[dict[str, Any]]] = set()
        try:
            for file, row, sample in rows:
                if len(running) >= self.max_in_flight:
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        yield task.result()
                running.add(asyncio.create_task(self._line(file, row, sample)))
            for finished in asyncio.as_completed(running):
                yield await finished
        finally:
            for task in running:
                task.cancel()

    async def _line(self, file: int, row: int, sample: Sample) -> dict[str, Any]:
        extra_info = decode_extra_info(sample.to_row()["extra_info"])
        identity = {"file": file, "row": row, "task": task_name(sample.data_source, extra_info)}
        ids = self.tokenizer.apply_chat_template(
            sample.prompt, add_generation_prompt=True, tokenize=True, return_dict=False, **self.template
        )
        if len(ids) > self.config.data.max_prompt_length:
            return {**identity, "too_long": len(ids)}
        responses = await self.replicas.generate(f"{file}-{row}", ids, self.sampling)
        texts = [self.tokenizer.decode(response, skip_special_tokens=True) for response in responses]
        scores = await asyncio.gather(
            *(
                score_async(
                    sample.data_source,
                    text,
                    sample.ground_truth,
                    extra_info,
                    options=self.longrl.reward,
                    isolation=self.isolation,
                    judge=self.judge,
                    truncated=len(response) >= self.config.data.max_response_length,
                )
                for text, response in zip(texts, responses, strict=True)
            )
        )
        return {
            **identity,
            "answers": [score.parts.get("answer", 0.0) for score in scores],
            "statuses": [score.status for score in scores],
            "responses": texts if self.longrl.log_rollouts else None,
        }
