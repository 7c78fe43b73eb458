"""How models grade: whether an answer is right, and ratings from 0 to 10.

An answer is right when it equals a reference by rule, else when a judge says so, by the training reward's own prompt,
so that an answer cannot talk to it.
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
    """Grades answers; the same answer gets the same question put to the judge, in any process.

    Args:
        max_tokens: of a judge's reply.
        seed: of the run.
    """

    def __init__(self, max_tokens: int, seed: int):
        self.options, self.seed = JudgeOptions(max_tokens=max_tokens), seed
        self.secret = hashlib.sha256(f"{seed}".encode()).digest()

    async def is_right(
        self, judge: LLM, question: str, reference: str | Sequence[str], answer: str, evidence: str
    ) -> bool:
        """Whether the answer says what the reference, or one of several, says; an empty one does not.

        Raises RequestFailed, JudgeError when the judge gives no verdict.
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


def ratings(found: dict[str, Any], names: Iterable[str]) -> dict[str, float]:
    """The ratings of these names. Raises UnreadableReply for anything but numbers from 0 to 10."""
    for name in names:
        value = found[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10:
            raise UnreadableReply(f"{name} = {value!r}; expected a number from 0 to 10")
    return {name: float(found[name]) for name in names}
