"""Stage questions: read questions as in KeyChain, and drop those whose evidence is not in their passages."""

from __future__ import annotations

from typing import ClassVar

from verl_longrl.data.prompt import neutralise_tags

from data_gen.keychain.questions import QuestionsOptions, QuestionsStage
from data_gen.question_readers.question import AnnotatedQuestion


class GroundedQuestionsStage(QuestionsStage):
    """Row: that of KeyChain's stage. Drops: also evidence_not_in_text, no_evidence; not looks_like_a_chain."""

    summary = "read questions with evidence (HotpotQA, 2WikiMultihopQA, MuSiQue, SQuAD, NQ, QASPER, JSON Lines)."
    blocks: ClassVar = {"questions": QuestionsOptions}

    def find_fault(self, question: AnnotatedQuestion) -> tuple[str, str] | None:
        if question.unplaced:
            return "evidence_not_in_text", question.unplaced[0]
        return None if any(passage.evidence for passage in question.passages) else ("no_evidence", "")

    def clean(self, text: str) -> str:
        # Tags first: a tag such as <think> may also be a special token, and is still a tag when it is broken up.
        return super().clean(neutralise_tags(text))
