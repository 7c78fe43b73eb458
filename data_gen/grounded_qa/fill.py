"""Stage fill: make prompts of the given sizes for each question whose answer is in its evidence and nowhere else."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, PositiveInt
from pydantic.dataclasses import dataclass
from verl_longrl.data.gold_checks import find_unreachable
from verl_longrl.options import Options
from verl_longrl.rewards import GoldError, check_gold, resolve

from data_gen.config import PipelineConfig
from data_gen.export_stage import prompt_counter
from data_gen.grounded_qa.composer import GroundedComposeOptions, GroundedComposer, GroundedQuestion, Size
from data_gen.keychain.exact_length import Unfillable
from data_gen.keychain.passage_filler import answer_pattern, holds_answer
from data_gen.pipeline import PartStage
from data_gen.store import Document, Row, Store, dropped_row
from data_gen.text import derive_seed

DATA_SOURCE = "longrlvr"
Sizes = Annotated[tuple[PositiveInt, ...], BeforeValidator(lambda value: (value,) if isinstance(value, int) else value)]


@dataclass(frozen=True)
class GroundedFillOptions(Options):
    """Options of stage fill."""

    length: Sizes = (16384,)
    """Length of prompts in tokens, as the model sees them: at most this, and at most 1 % less. With several lengths,
    each question becomes a row of each."""
    chunks: Sizes = ()
    """Instead of a length: the number of chunks of a prompt, or several numbers."""
    same_article: Literal["first", "any", "avoid"] = "first"
    """Passages of the same article, where the data set has several of one (SQuAD): draw them before all others, as any
    other, or never. A question's own passages without evidence come before these."""

    @property
    def sizes(self) -> list[Size]:
        """The sizes of a question's prompts."""
        return [Size(n, "chunks") for n in self.chunks] or [Size(n) for n in self.length]


class GroundedFillStage(PartStage):
    """Row: `prompts`, the fields of `GroundedPrompt` and `size` of each; `answer_found`, whether an answer is in the
    evidence (null: it was not looked for); `leaks_known`, whether `leaks` are all other chunks with an answer.

    Drops: no_evidence, answer_not_in_evidence, answer_outside_evidence, unscorable; too_long and no_filling if no
    prompt could be made.
    """

    name = "fill"
    summary = "make prompts of the wanted size, with the evidence anywhere."
    blocks: ClassVar = {"fill": GroundedFillOptions, "compose": GroundedComposeOptions}
    after = ("questions", "haystack")

    def __init__(self, options: GroundedFillOptions, compose: GroundedComposeOptions, tokenizer: str, seed: int):
        self.options, self.compose = options, compose
        self.tokenizer, self.seed = tokenizer, seed

    @classmethod
    def from_config(cls, config: PipelineConfig, inputs: list[str]) -> Self:
        options, compose = config.block(GroundedFillOptions), config.block(GroundedComposeOptions)
        return cls(options, compose, config.tokenizer, config.seed)

    def settings(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "tokenizer": self.tokenizer,
            **self.block_settings(self.compose, "compose"),
            **self.block_settings(self.options),
        }

    def check_before_run(self) -> None:
        prompt_counter(self.tokenizer, self.compose.chat_template_kwargs)

    def open(self, store: Store) -> None:
        counter = prompt_counter(self.tokenizer, self.compose.chat_template_kwargs)
        folder = store.root / "haystack" / "passages"
        self.composer = GroundedComposer(folder, counter, self.compose, self.options.sizes, self.seed)
        articles: dict[str, dict[int, None]] = defaultdict(dict)
        for part in store.parts("questions") if self.options.same_article != "any" else ():
            for document in store.documents(part, ("questions", "haystack")):
                if article := document["questions"]["group"]:
                    articles[article] |= dict.fromkeys(document["haystack"]["own"])
        self.articles = {article: tuple(passages) for article, passages in articles.items()}

    def rows(self, store: Store, part: str, documents: list[Document]) -> Iterator[Row]:
        for document in documents:
            yield self._row(document)

    def _row(self, document: Document) -> Row:
        row, places = document["questions"], document["haystack"]
        name, answers = row["id"], tuple(row["answers"])
        gold = dict(places["gold"])
        if not gold:
            return dropped_row(name, "no_evidence", row["source"])
        searched = answer_pattern(answers) is not None and not row["comparison"]
        supported = not searched or self._is_supported(answers, gold)
        if not supported and self.compose.unsupported == "drop":
            return dropped_row(name, "answer_not_in_evidence", row["source"])
        leaks = self._find_leaks(answers, places["own"], gold) if searched else {}
        if leaks and (self.compose.leaks == "drop" or (self.compose.leaks == "leave_out" and leaks.keys() & gold)):
            return dropped_row(name, "answer_outside_evidence", row["source"])
        if problem := find_unscorable(list(answers)):
            return dropped_row(name, "unscorable", f"{row['source']}: {problem}")
        # Passages with an answer would not be drawn, so those that are to be shown are among the question's own.
        shown = {} if self.compose.leaks == "leave_out" else leaks
        own = [*gold, *(number for number in shown if number not in gold)]
        others = [number for number in places["own"] if number not in own]
        article = [number for number in self.articles.get(row["group"], ()) if number not in own]
        draw = random.Random(derive_seed(self.seed, "preferred", name))
        preferred = draw.sample(others, len(others))
        if self.options.same_article == "first":
            preferred += draw.sample(article, len(article))
        question = GroundedQuestion(
            id=name,
            question=row["question"],
            answers=answers,
            own=tuple(own),
            gold=gold,
            leaks=leaks,
            preferred=preferred,
            excluded=article if self.options.same_article == "avoid" else (),
        )
        prompts: list[Row] = []
        failures: list[Unfillable] = []
        for size in self.options.sizes:
            try:
                prompt = self.composer.compose(question, size)
            except Unfillable as error:
                failures.append(error)
                continue
            prompts.append({**asdict(prompt), "size": size})
        if not prompts:
            return dropped_row(name, failures[0].reason, f"{row['source']}: {failures[0]}")
        counts = {
            "prompts": len(prompts),
            "prompt tokens": sum(prompt["tokens"] for prompt in prompts),
            "evidence chunks": sum(len(prompt["ref_chunks"]) for prompt in prompts),
            "answers not looked for": int(not searched),
            "answers outside the evidence": int(bool(leaks)),
            "answers not in the evidence": int(not supported),
        }
        counts |= Counter(f"sizes left out: {failure.reason}" for failure in failures)
        return {
            "id": name,
            "prompts": prompts,
            "answer_found": supported if searched else None,
            "leaks_known": searched and self.compose.leaks != "allow",
            "counts": counts,
        }

    def _is_supported(self, answers: tuple[str, ...], gold: dict[int, list[int]]) -> bool:
        pool, has_answer = self.composer.pool, holds_answer(answers)
        return any(has_answer(run) for number, chunks in gold.items() for run in pool.runs(number, chunks))

    def _find_leaks(self, answers: tuple[str, ...], own: list[int], gold: dict[int, list[int]]) -> dict[int, list[int]]:
        """Passage -> those of its chunks that have an answer but no evidence."""
        pool, has_answer = self.composer.pool, holds_answer(answers)
        leaks: dict[int, list[int]] = {}
        for number in own:
            raw, evidence = pool.raw(number), gold.get(number, ())
            chunks = enumerate(pool.chunks(number))
            leaking = [n for n, (start, end, _) in chunks if n not in evidence and has_answer(raw[start:end])]
            if leaking:
                leaks[number] = leaking
        return leaks


def find_unscorable(answers: list[str]) -> str:
    """The reason why the reward cannot score these answers, or none of them can be given; "" if it can."""
    try:
        check_gold(DATA_SOURCE, answers, {})
    except GoldError as error:
        return str(error)
    return str(find_unreachable(DATA_SOURCE, resolve(DATA_SOURCE), answers, {}) or "")
