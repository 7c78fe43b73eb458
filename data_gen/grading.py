"""Grading by models: whether an answer is right, and ratings from 0 to 10.

An answer is right if it equals a reference by rule, or if a judge says so. The judge gets the prompt of the training
reward, which an answer cannot manipulate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from verl_longrl.rewards.judge.prompt import build_messages, read_verdict
from verl_longrl.rewards.matching.answer_match import equals_gold
from verl_longrl.rewards.options import JudgeOptions

from data_gen.llm import LLM
from data_gen.llm_json import UnreadableReply
from data_gen.text import derive_seed


class Grader:
    """Grades answers. The judge gets the same request for the same answer in every process.

    Args:
        max_tokens: longest reply of the judge.
        seed: the run's seed.
    """

    def __init__(self, max_tokens: int, seed: int):
        self.options, self.seed = JudgeOptions(max_tokens=max_tokens), seed
        self.secret = hashlib.sha256(f"{seed}".encode()).digest()

    async def is_right(
        self, judge: LLM, question: str, reference: str | Sequence[str], answer: str, evidence: str
    ) -> bool:
        """Whether the answer agrees with the reference, or with one of several. An empty answer does not.

        Raises RequestFailed or JudgeError when the judge gives no verdict.
        """
        if not answer:
            return False
        references = [reference] if isinstance(reference, str) else list(reference)
        if equals_gold(answer, references):
            return True
        messages, mark = build_messages(
            question, " | ".join(references), answer, evidence, self.options, secret=self.secret
        )
        reply = await judge.chat(
            messages,
            max_tokens=self.options.max_tokens,
            temperature=0.0,
            seed=derive_seed(self.seed, "grade", question, answer),
        )
        return read_verdict(reply.text, mark, reply.finish_reason)


def read_ratings(reply: dict[str, Any], names: Iterable[str]) -> dict[str, float]:
    """The ratings of these names. Raises UnreadableReply unless all are numbers from 0 to 10."""
    for name in names:
        value = reply[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10:
            raise UnreadableReply(f"{name} = {value!r}: expected a number from 0 to 10")
    return {name: float(reply[name]) for name in names}
