"""Rows as GoLongRL's release has them, of every task: verl's columns, and one struct for the ground truth of all tasks.

The 25 tasks of LongBench Pro name theirs in `extra_info.reward_mode`; `summary` is the language. English and Chinese.
"""

import json
from typing import Any

from verl_longrl.rewards.tasks.golongrl import LONGBENCH_PRO

STORY = (
    "In 1881 Ann built the mill . In 1890 Bo sold the mill to Cy . In 1902 Cy burnt the mill . The mill cost 34 coins ."
)
ABILITIES = {
    "golongrl_ranking": "dimension-quantified retrieval and graded ranking",
    "golongrl_ordering": "sequence reconstruction and ordering",
    "golongrl_qa": "evidence-grounded comprehension and reasoning",
    "golongrl_summary": "long document summarization",
    "golongrl_exhaustive": "high-recall exhaustive retrieval and verification",
    "golongrl_matching": "fragment-level structured matching and induction",
}
ITEMS = {
    "golongrl_ranking": ["Cy", "Bo", "Ann"],
    "golongrl_ordering": ["built", "sold", "burnt"],
    "golongrl_qa": ["Cy"],
    "golongrl_summary": ["Ann built a mill , which Cy burnt .", "The mill was built , sold and burnt ."],
    "golongrl_exhaustive": ["1881", "1890", "1902"],
    "golongrl_matching": ["S1: 2", "S2: 1"],
}
TABLE = {"columns": ["who", "count(*)"], "data": [["Ann", 1], ["Cy", None]]}


def row(number: int, source: str, mode: str, ability: str, doc_ids=(), golden_label="", language="English"):
    """A released row; its text and question differ from those of other numbers."""
    question = f"Question {number}: what of the mill ?"
    truth = {"doc_ids": list(doc_ids), "golden_label": golden_label, "summary": language}
    return {
        "data_source": source,
        "prompt": [{"role": "user", "content": f"{STORY} The story has {number} pages .\n\n{question}"}],
        "ability": ability,
        "reward_model": {"ground_truth": truth, "style": "rule"},
        "extra_info": {"reward_mode": mode, "question": question},
    }


def rows() -> list[dict[str, Any]]:
    """One row of each task and language, those of LongBench Pro's tasks first."""
    made: list[dict[str, Any]] = []
    for language in ("English", "Chinese"):
        for mode, task in LONGBENCH_PRO.items():
            made.append(row(len(made), "longbench_pro", mode, ABILITIES[task], ITEMS[task], language=language))
        for source, ability, label in (
            ("EM", "precise long-range information retrieval", "In 1890 Bo sold the mill to Cy ."),
            ("selection", "evidence-grounded comprehension and reasoning", "The correct answer is (B)"),
            ("math_longcot_math_verify", "numerical extraction and quantitative reasoning", "\\frac{34}{2}"),
            ("multitableqa_pretraining", "multi-table structured extraction", json.dumps(TABLE)),
        ):
            made.append(row(len(made), source, source, ability, golden_label=label, language=language))
    return made
