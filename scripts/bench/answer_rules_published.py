"""Rules for short answers of other projects, for comparison with ours."""

from __future__ import annotations

import re
from collections import Counter

from answer_rules_cases import HAN, Rule
from verl.utils.reward_score.search_r1_like_qa_em import em_check, normalize_answer, subem_check
from verl_longrl.rewards.matching.two_way_match import matches_as_published


def published_rules() -> dict[str, Rule]:
    """Rules of other projects by name. They do not look at the question."""
    return {
        "SQuAD's exact match = verl's `search_r1`": lambda text, gold, _: bool(em_check(text, gold)),
        "verl's `search_r1`, substring": lambda text, gold, _: bool(subem_check(text, gold)),
        "LoongRL's two-way substring": lambda text, gold, _: matches_as_published(text, gold),
        "LongBench's F1, at least 0.5": lambda text, gold, _: longbench_f1(text, gold) >= 0.5,
        "LongBench's F1, at least 0.8": lambda text, gold, _: longbench_f1(text, gold) >= 0.8,
    }


def longbench_f1(text: str, gold: str) -> float:
    """LongBench's qa_f1_score, or for a Chinese gold answer its qa_f1_zh_score (arXiv 2308.14508, metrics.py)."""
    split = _split_chinese if HAN.search(gold) else _split_english
    words, gold_words = Counter(split(text)), Counter(split(gold))
    shared = (words & gold_words).total()
    return 2 * shared / (words.total() + gold_words.total()) if shared else 0.0


def _split_english(text: str) -> list[str]:
    return normalize_answer(text).split()


def _split_chinese(text: str) -> list[str]:
    import jieba

    jieba.setLogLevel("WARNING")
    words = (re.sub(r"[\W_]+", "", word.lower()) for word in jieba.cut(text, cut_all=False))
    return [word for word in words if word]
