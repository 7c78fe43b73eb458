"""Rules that score an answer without a model: published as they are, quirks included, and strict ones next to them.

A rule is `(text, row) -> Outcome` (`records.Rule`). It is pure, takes linear time or has a bound, and never raises for
any text; a row whose gold answer cannot be used raises ValueError with the row's id. `published` or `official` rules
agree with the code that produced the figures in papers. `strict` rules read one answer after the reasoning, so that
listing candidates, quoting the document or leaving the choice open earns 0. They are lower bounds: no rule knows
synonyms.

| module | benchmark | `row.gold` | `row.meta` |
|---|---|---|---|
| `ruler.py` | RULER, RULER-QA | list of texts | `question` |
| `letters.py` | LongBench v2, LongReason | letter | `options`: {letter: text} |
| `squad_f1.py` | LongBench v1 QA | list of texts | `question` |
| `two_way.py` | LoongRL's protocol of LongBench v1 QA | list of texts | `question` |
| `sequence_ratio.py` | MRCR | text, with its prefix | `random_string_to_prepend` |
| `cover_match.py` | Frames | text | `question` |
| `docmath.py` | DocMath-Eval | number or bool | `question` |
| `corpusqa.py` | CorpusQA | text | `question` |
| `longbench_pro.py` | LongBench-Pro | list of texts | `secondary_task`, `language` |
| `aa_lcr.py` | AA-LCR | text | `question` |
| `grounding.py` | any with evidence | - | `num_chunks` |

All of `meta` but the prefix and the task is optional. Without `question`, the last line of the prompt is taken for it.
"""
