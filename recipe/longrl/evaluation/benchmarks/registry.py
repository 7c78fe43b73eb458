"""The benchmarks of this project by name, each with its rules; the first rule is the headline.

The headline is the authors' own rule, except where that rule pays for wrong answers by accident: LongRLVR's of
LongReason finds the letter C in every citation, and DocMath's ignores the sign and the power of ten.
"""

from __future__ import annotations

from recipe.longrl.evaluation.benchmarks import (
    aa_lcr,
    corpusqa,
    docmath,
    frames,
    longbench_pro,
    longbench_v1_qa,
    longbench_v2,
    longreason,
    mrcr,
    own_parquet,
    ruler,
    ruler_qa,
)
from recipe.longrl.evaluation.records import Benchmark, Judging, Outcome, Row, Rule
from recipe.longrl.evaluation.rules.aa_lcr import aa_lcr_strict
from recipe.longrl.evaluation.rules.corpusqa import corpusqa_strict
from recipe.longrl.evaluation.rules.cover_match import cover_match, cover_match_strict
from recipe.longrl.evaluation.rules.docmath import docmath_published, docmath_strict
from recipe.longrl.evaluation.rules.grounding import cited_f2, cited_f2_strict
from recipe.longrl.evaluation.rules.letters import (
    longbench_v2_compensated,
    longbench_v2_official,
    longbench_v2_strict,
    longreason_published,
    longreason_strict,
)
from recipe.longrl.evaluation.rules.longbench_pro import longbench_pro_official, longbench_pro_strict
from recipe.longrl.evaluation.rules.reading import concluding_answer, final_answer
from recipe.longrl.evaluation.rules.ruler import match_all, match_all_strict, match_part, match_part_strict
from recipe.longrl.evaluation.rules.sequence_ratio import mrcr_official, mrcr_strict
from recipe.longrl.evaluation.rules.squad_f1 import squad_f1, squad_f1_strict
from recipe.longrl.evaluation.rules.two_way import two_way_published, two_way_strict


def ruler_official(text: str, row: Row) -> Outcome:
    """RULER's own rule: any reference for the questions, the share of references for all other tasks."""
    return (match_part if row.meta["task"] in ruler.QUESTION_TASKS else match_all)(text, row)


def ruler_strict(text: str, row: Row) -> Outcome:
    """The strict form of `ruler_official`."""
    return (match_part_strict if row.meta["task"] in ruler.QUESTION_TASKS else match_all_strict)(text, row)


_GROUNDING: dict[str, Rule] = {"cited_f2": cited_f2, "cited_f2_strict": cited_f2_strict}
_JUDGED = Judging("strict", concluding_answer)
_DOCMATH: dict[str, Rule] = {"strict": docmath_strict, "published": docmath_published}

_BENCHMARKS = (
    Benchmark(
        "ruler",
        ruler.ruler_rows,
        {"official": ruler_official, "strict": ruler_strict},
        "13 synthetic tasks of retrieval, tracing, counting and questions at any length",
    ),
    Benchmark(
        "ruler_qa",
        ruler_qa.ruler_qa_rows,
        {"published": match_part, "strict": match_part_strict, **_GROUNDING},
        "RULER's questions in chunks that are cited, as LongRLVR asks them",
    ),
    Benchmark(
        "longbench_v2",
        longbench_v2.longbench_v2_rows,
        {"official": longbench_v2_official, "strict": longbench_v2_strict, "compensated": longbench_v2_compensated},
        "503 multiple-choice questions about texts of 8K to 2M words",
    ),
    Benchmark(
        "longbench_v1_qa",
        longbench_v1_qa.longbench_v1_qa_rows,
        {
            "official": squad_f1,
            "strict": squad_f1_strict,
            "two_way_published": two_way_published,
            "two_way_strict": two_way_strict,
        },
        "5 sets of 200 questions about one or several texts",
        _JUDGED,
    ),
    Benchmark(
        "longreason",
        longreason.longreason_rows,
        {"strict": longreason_strict, "published": longreason_published},
        "794 reasoning questions without distracting text and in contexts of 8K to 128K tokens",
    ),
    Benchmark(
        "mrcr",
        mrcr.mrcr_rows,
        {"official": mrcr_official, "strict": mrcr_strict},
        "repeat one of several similar answers of a conversation of 4K to 1M tokens",
    ),
    Benchmark(
        "frames",
        frames.frames_rows,
        {"cover_match": cover_match, "strict": cover_match_strict},
        "824 questions over several Wikipedia articles",
        _JUDGED,
    ),
    Benchmark(
        "docmath",
        docmath.docmath_rows,
        _DOCMATH,
        "800 numeric questions about financial documents",
        _JUDGED,
    ),
    Benchmark(
        "docmath_grounded",
        docmath.docmath_grounded_rows,
        {**_DOCMATH, **_GROUNDING},
        "the questions of docmath with evidence, in chunks that are cited",
        _JUDGED,
    ),
    Benchmark(
        "corpusqa",
        corpusqa.corpusqa_rows,
        {"strict": corpusqa_strict},
        "questions over whole corpora of 128K and 1M tokens",
        _JUDGED,
    ),
    Benchmark(
        "longbench_pro",
        longbench_pro.longbench_pro_rows,
        {"official": longbench_pro_official, "strict": longbench_pro_strict},
        "1,500 tasks of 25 kinds in English and Chinese, 8K to 256K tokens",
    ),
    Benchmark(
        "aa_lcr",
        aa_lcr.aa_lcr_rows,
        {"strict": aa_lcr_strict},
        "100 questions over sets of documents of about 100K tokens",
        # The prompt asks for no form, so any sentence may be the answer.
        Judging("strict", final_answer),
    ),
    Benchmark(
        "own_parquet",
        own_parquet.own_parquet_rows,
        {"reward": own_parquet.training_reward, "reward_published": own_parquet.training_reward_published},
        "held-out rows of your own parquet files, scored by the reward of their task",
    ),
)
REGISTRY: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _BENCHMARKS}
"""All benchmarks by name."""
