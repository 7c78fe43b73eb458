"""Demonstrations: responses to imitate in supervised fine-tuning, each with the row that it answers.

A file of demonstrations has the columns of a data file (`schema.py`) and one more, `response`, the text. So a
demonstration can be scored like a rollout, the validator reads the file as any other, and so does reinforcement
learning.

A demonstration becomes the tokens of a rollout: the prompt through the chat template with its generation prompt, by the
code that counts prompts (`prompt_lengths.PromptCounter`); the text of the response; and the token that ends a turn. A
rollout ends at the tokenizer's end of text or at a token of the model's generation config, so another token that a chat
template writes after a turn would not end it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from verl_longrl.data.prompt_lengths import CACHE_DIR, PromptCounter
from verl_longrl.data.schema import (
    SCHEMA,
    Message,
    Sample,
    decode_extra_info,
    find_unfit,
    grouped,
    read_rows,
    read_sample,
    sample_columns,
    write_tables,
)
from verl_longrl.data.validation import ValidationReport, validate_file
from verl_longrl.rewards import RewardOptions, Score, score
from verl_longrl.rewards.matching.response_format import THINK_OPEN
from verl_longrl.special_tokens import COMMON, SpecialTokenFinder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RESPONSE = "response"
DATASET = {"path": "pkg://verl_longrl.data.demonstration_dataset", "name": "DemonstrationDataset"}
"""`data.custom_cls` of supervised runs, by which they can be told from others."""
DEMONSTRATION_SCHEMA = SCHEMA.append(pa.field(RESPONSE, pa.string()))
FULL_MARKS = 1 - 1e-9
"""A mean of n ones may be a little below 1."""


@dataclass(frozen=True)
class Demonstration:
    """A response to imitate, and the row that it answers."""

    sample: Sample
    response: str

    def score(self, options: RewardOptions, response: str | None = None) -> Score:
        """The score of the response, or of another one to the same row, answers decided by rule."""
        sample = self.sample
        extra_info = decode_extra_info(sample.to_row()["extra_info"])
        text = self.response if response is None else response
        return score(sample.data_source, text, sample.ground_truth, extra_info, options=options)


class DemonstrationTokens(NamedTuple):
    """Token ids. The response ends with the token that ends a turn."""

    prompt: list[int]
    response: list[int]


class DemonstrationEncoder:
    """Encodes demonstrations as rollouts of the same texts would be.

    Args:
        tokenizer: the model's, with a chat template.
        end_of_turn: the token that ends a response (`find_end_of_turn`).
        chat_template_kwargs: `data.apply_chat_template_kwargs`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        end_of_turn: int,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ):
        self.tokenizer, self.end_of_turn = tokenizer, end_of_turn
        self.prompts = PromptCounter(tokenizer, chat_template_kwargs)

    def encode(self, prompt: list[Message], response: str) -> DemonstrationTokens:
        """The tokens that are trained on."""
        (ids,) = self.prompts.encode([prompt])
        return DemonstrationTokens(ids, self.encode_response(response))

    def encode_response(self, response: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(response, add_special_tokens=False)
        return [*ids, self.end_of_turn]

    def decode_response(self, ids: Sequence[int]) -> str:
        """The text that a rollout of these tokens is scored as."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def opens_reasoning(self) -> bool:
        """Whether the generation prompt has opened `<think>` already."""
        prompt = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": "?"}], add_generation_prompt=True, tokenize=False, **self.prompts.kwargs
        )
        return str(prompt).rstrip().endswith(THINK_OPEN)


def find_end_of_turn(
    tokenizer: PreTrainedTokenizerBase,
    generation_eos: int | Sequence[int] | None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> int:
    """The token at which a rollout ends: the one that the chat template writes after a turn, if the rollout engine
    stops at it, otherwise the tokenizer's end of text.

    generation_eos: `eos_token_id` of the model's generation config. Raises ValueError when the engine stops at none.
    """
    several = [generation_eos] if isinstance(generation_eos, int) else list(generation_eos or [])
    stops = [token for token in (tokenizer.eos_token_id, *several) if token is not None]
    if not stops:
        raise ValueError(
            "the tokenizer has no eos_token and the model no generation_config.json with eos_token_id, so a response "
            "would never end. Fix: add one of them to the model's folder"
        )
    conversation = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    turns: Any = tokenizer.apply_chat_template(
        conversation, tokenize=True, return_dict=False, **dict(chat_template_kwargs or {})
    )
    return next((token for token in reversed(turns) if token in stops), stops[0])


def write_demonstrations(path: str | Path, demonstrations: Iterable[Demonstration]) -> int:
    """Write demonstrations to one parquet file, as `schema.write_samples` does; returns how many.

    Raises ValueError for none at all, and for a value that the file cannot hold.
    """
    path = Path(path)

    def tables() -> Iterator[pa.Table]:
        for group in grouped(demonstrations):
            rows = [each.sample.to_row() for each in group]
            if unfit := find_unfit(rows):
                raise ValueError(f"{path}: {unfit.column} = {str(unfit.value)[:80]!r}: expected {unfit.kind}")
            responses = [{RESPONSE: each.response} for each in group]
            merged = [row | response for row, response in zip(rows, responses, strict=True)]
            yield pa.Table.from_pylist(merged, schema=DEMONSTRATION_SCHEMA)

    return write_tables(path, DEMONSTRATION_SCHEMA, tables())


def read_demonstrations(path: str | Path) -> Iterator[Demonstration]:
    """Demonstrations of a parquet file, in order. Raises ValueError for any other row."""
    for number, row in enumerate(read_rows(path, [*sample_columns(path), RESPONSE])):
        yield Demonstration(read_sample(row, number), row[RESPONSE])


def find_flaw(score: Score) -> str | None:
    """The reason why a response has less than full marks, in words; None if it has them.

    Full marks are an answer, a format and, for tasks with evidence, a context of 1.
    """
    if score.status != "ok":
        return f"{score.status}: {score.reason}"
    parts = {name: score.parts.get(name, 1.0) for name in ("answer", "context", "format")}
    missed = [f"{name} {value:.3g}" for name, value in parts.items() if value < FULL_MARKS]
    return f"{', '.join(missed)}; expected 1" if missed else None


def check_demonstrations(
    path: str | Path,
    options: RewardOptions,
    *,
    encoder: DemonstrationEncoder | None = None,
    max_prompt_length: int | None = None,
    max_response_length: int | None = None,
    max_imperfect: int = 0,
    max_errors: int = 20,
    cache_dir: str | Path = CACHE_DIR,
) -> ValidationReport:
    """Check a file of demonstrations: its rows as `validate_file` does, its responses, their lengths and their scores.

    A response is scored with the run's options as it is decoded from its tokens, as a rollout is. Never raises for the
    path or the content of the file.

    Args:
        encoder: None neither counts nor decodes.
        max_prompt_length, max_response_length: in tokens, the latter with the end of the turn.
        max_imperfect: demonstrations with less than full marks that are accepted, with a warning.
    """
    report = validate_file(
        path,
        tokenizer=encoder.tokenizer if encoder else None,
        chat_template_kwargs=encoder.prompts.kwargs if encoder else None,
        max_prompt_length=max_prompt_length,
        max_errors=max_errors,
        cache_dir=cache_dir,
    )
    if not report.ok:
        return report
    if RESPONSE not in pq.read_schema(path).names:
        report.add(f"{RESPONSE}: column is missing. Fix: make demonstrations with python -m data_gen.demonstrations")
        return report
    special = SpecialTokenFinder.of_tokenizer(encoder.tokenizer) if encoder else COMMON
    opened = encoder is not None and encoder.opens_reasoning()
    imperfect: dict[int, str] = {}
    for number, row in enumerate(read_rows(path, [*sample_columns(path), RESPONSE])):
        response = row[RESPONSE]
        if not isinstance(response, str) or not response.strip():
            report.add(f"{RESPONSE} = {response!r}: expected a text. Fix: drop the row", number)
            continue
        if token := special.find(response):
            report.add(f"{RESPONSE} contains the special token {token}. Fix: remove it from the text", number)
            continue
        if opened and response.lstrip().startswith(THINK_OPEN):
            fix = f"remove {THINK_OPEN} from the response, or use another chat template"
            report.add(f"{RESPONSE} begins with {THINK_OPEN}, which the chat template has written. Fix: {fix}", number)
            continue
        text = response
        if encoder is not None:
            ids = encoder.encode_response(response)
            if max_response_length is not None and len(ids) > max_response_length:
                report.add(
                    f"{RESPONSE} has {len(ids)} tokens, with the end of the turn: more than data.max_response_length = "
                    f"{max_response_length}, and nothing is truncated. Fix: raise it, or drop the row",
                    number,
                )
                continue
            text = encoder.decode_response(ids)
        if flaw := find_flaw(Demonstration(read_sample(row, number), text).score(options)):
            imperfect[number] = flaw
    if len(imperfect) > max_imperfect:
        for number, flaw in imperfect.items():
            report.add(
                f"{RESPONSE} has less than full marks: {flaw}. Fix: drop the row, or raise max_imperfect", number
            )
    elif imperfect:
        number, flaw = next(iter(imperfect.items()))
        report.warnings.append(
            f"{path}: {len(imperfect)} of {report.rows} demonstrations have less than full marks, such as row {number} "
            f"({flaw})"
        )
    return report
