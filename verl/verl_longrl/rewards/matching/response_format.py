r"""What a response says, and why it cannot be read when it cannot.

The contract: reasoning closed by `</think>` (its opening tag may be in the prompt), then exactly one
`<useful_chunks>` block naming chunks as `<CHUNK_i>`, then exactly one `<answer>` block. Only the text after
the last `</think>` counts, so tags rehearsed while thinking neither help nor hurt. Everything here runs in
linear time: there is no input that makes it slow.

KeyChain, plain QA, retrieval, choice and math answer in the last `\boxed{...}`, with nothing between the word and its
brace. An earlier box is a draft; a box that never closes is a breach, not a reason to go back to an earlier one.

GoLongRL's tasks answer, each in its own way, in the lines after the last `[Answer]` (or `[答案]`), in JSON (in the last
`<answer>`, in a code fence or bare), or in a sentence: "The correct answer is (X)", "The answer is X".

`paper_exact` reads grounded responses as the released LongRLVR code does: the whole text including the reasoning, tags
in any order, exactly one non-greedy match of each. It reads boxed ones as LoongRL is published: `</think>` is required,
stars are removed. GoLongRL, as published, wants exactly one `</think>` and at most one `<think>` (`published_text`),
and then finds most answers in the whole text, reasoning included.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
_TAG = re.compile(r"<\s{0,4}(/?)\s{0,4}(useful_chunks|answer)\s{0,4}>")
_CHUNK = re.compile(r"<\s{0,4}CHUNK_\s{0,4}([0-9]+)\s{0,4}>")
_BOX = "\\boxed{"
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace is text
_ANSWER_LINE = re.compile(r"answer\s{0,4}:([^\n]*)", re.IGNORECASE)
_SPACE_COMMAND = re.compile(r"\\(?:q?quad(?![A-Za-z])|[ ,;:!])")
_TEXT_COMMAND = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|up|normal)?|math(?:bf|it|rm|sf|tt)|mbox)(?![A-Za-z])|(?<!\\)[{}]"
)
_MARKER = re.compile(r"[\[［【][ \t]{0,4}(?:answer|答案)[ \t]{0,4}[\]］】][ \t*:：]{0,8}", re.IGNORECASE)
_MARKERS_AS_RELEASED = ("[Answer]", "[答案]")
_FENCE_OR_RULE = re.compile(r"`{3,9}[\w+-]{0,20}|[-=_*]{3,}")
_ANSWER_IS = re.compile(
    rf"(?:\banswer[ \t]{{0,4}}(?:is\b|[:：])|答案[ \t]{{0,4}}(?:应?[是为]|[:：])|{_MARKER.pattern})[\s:：]{{0,8}}",
    re.IGNORECASE,
)
_CHOICE_IS = re.compile(
    r"(?:(?:\banswer|\b(?:correct|right|best|final)[ \t]{1,4}(?:option|choice))[ \t]{0,4}(?:is\b|[:：])"
    r"|(?:答案|选项)[ \t]{0,4}(?:应?[是为]|[:：]))[\s:：]{0,8}",
    re.IGNORECASE,
)
_JSON_START = re.compile(r"\{(?=\s{0,99}[\"}])|\[(?=\s{0,99}[\[{\"\]\-0-9tfnNI])")
_CONTRACT = [("", "useful_chunks"), ("/", "useful_chunks"), ("", "answer"), ("/", "answer")]


@dataclass(frozen=True)
class GroundedResponse:
    """A response taken apart: `cited` chunk ids in order with duplicates, the `answer` text, and `error`, the
    reason why the response breaks the contract (empty when it keeps it; then `answer` is the text, stripped,
    maybe empty)."""

    cited: tuple[int, ...] = ()
    answer: str = ""
    error: str = ""


@dataclass(frozen=True)
class BoxedResponse:
    """The `answer` in a response's last box, stripped, maybe empty; `error`, the reason why there is no such box."""

    answer: str = ""
    error: str = ""


@dataclass(frozen=True)
class LinesResponse:
    """The `lines` of an answer, stripped, none of them empty; `error`, the reason why there are none."""

    lines: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class TextResponse:
    """The `text` of an answer, stripped, never empty; `error`, the reason why there is none."""

    text: str = ""
    error: str = ""


@dataclass(frozen=True)
class JsonResponse:
    """The JSON objects and arrays in an answer as Python `values`, in order; `error`, the reason why there are none."""

    values: tuple[Any, ...] = ()
    error: str = ""


def visible_text(response: str, *, require_think: bool = False) -> tuple[str, str]:
    """The text after the last `</think>`, and the reason why there is none ("" when there is).

    Without any `</think>` the whole text is visible, unless the response opens `<think>` (the reasoning never
    ended) or `require_think` is set.
    """
    _, closed, text = response.rpartition(THINK_CLOSE)
    if THINK_OPEN in text:
        return "", "<think> without </think>: the reasoning never ended"
    if require_think and not closed:
        return "", "no </think>: the reasoning never ended"
    return text, ""


def cited_chunks(text: str) -> tuple[int, ...]:
    """Every id named as `<CHUNK_i>` in `text`, in order, duplicates kept; spaces inside the tag are
    tolerated."""
    return tuple(int(digits[:19]) for digits in _CHUNK.findall(text))  # 19 digits: beyond any document


def parse_grounded(response: str, *, require_think: bool = False, paper_exact: bool = False) -> GroundedResponse:
    """Read one grounded response; never raises, the reason of a breach is in `.error`."""
    if paper_exact:
        return _parse_as_released(response)
    text, error = visible_text(response, require_think=require_think)
    if error:
        return GroundedResponse(error=error)
    tags = list(_TAG.finditer(text))
    found = [(tag[1], tag[2]) for tag in tags]
    if found != _CONTRACT:
        return GroundedResponse(error=_breach(found))
    chunks = text[tags[0].end() : tags[1].start()]
    answer = text[tags[2].end() : tags[3].start()]
    return GroundedResponse(cited_chunks(chunks), answer.strip())


def parse_boxed(
    response: str, *, require_think: bool = False, answer_line: bool = False, paper_exact: bool = False
) -> BoxedResponse:
    """Read one boxed response; never raises, the reason of a breach is in `.error`.

    answer_line: without any box, the rest of the line after the last "Answer:" counts (DAPO's prompts ask for it).
    """
    if paper_exact and THINK_CLOSE in response:
        text, error = response.rpartition(THINK_CLOSE)[2].replace("*", ""), ""
    else:
        text, error = visible_text(response, require_think=require_think or paper_exact)
    if error:
        return BoxedResponse(error=error)
    _, box, after = text.rpartition(_BOX)
    if box:
        return _close(after)
    lines = _ANSWER_LINE.findall(text) if answer_line else []
    return BoxedResponse(lines[-1].strip(" \t\r*")) if lines else BoxedResponse(error="no \\boxed{} in the answer")


def _close(text: str) -> BoxedResponse:
    """The text up to the brace that closes a box opened right before it."""
    depth = 1
    for brace in _BRACE.finditer(text):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return BoxedResponse(text[: brace.start()].strip())
    return BoxedResponse(error="the last \\boxed{ has no closing brace")


def plain_text(latex: str) -> str:
    """What LaTeX's text commands, spaces and braces are around: Paris, of `\\text{Paris}`. The rest stays as it is."""
    return _TEXT_COMMAND.sub("", _SPACE_COMMAND.sub(" ", latex)).strip()


def published_text(response: str) -> tuple[str, str]:
    """The whole response, and the reason why GoLongRL's released gate gives it no reward ("" when it passes)."""
    opened, closed = response.count(THINK_OPEN), response.count(THINK_CLOSE)
    if closed != 1 or opened > 1:
        return "", f"{opened} <think> and {closed} </think>, expected one </think> and at most one <think>"
    return response, ""


def parse_lines(response: str, *, require_think: bool = False, paper_exact: bool = False) -> LinesResponse:
    """Read the lines after the last `[Answer]` or `[答案]`; never raises, the reason of a breach is in `.error`.

    Code fences and ruled lines are no lines of an answer. paper_exact: after the last `[Answer]`, else `[答案]`, else
    the whole response, reasoning included; empty lines stay.
    """
    if paper_exact:
        text, error = published_text(response)
        marker = next((marker for marker in _MARKERS_AS_RELEASED if marker in text), None)
        area = text.rpartition(marker)[2] if marker else text
        return LinesResponse(error=error) if error else LinesResponse(tuple(area.strip().split("\n")))
    text, error = visible_text(response, require_think=require_think)
    if error:
        return LinesResponse(error=error)
    markers = list(_MARKER.finditer(text))
    if not markers:
        return LinesResponse(error="no [Answer] after the reasoning")
    lines = _lines(text[markers[-1].end() :])
    return LinesResponse(tuple(lines)) if lines else LinesResponse(error="nothing after [Answer]")


def parse_text(response: str, *, require_think: bool = False) -> TextResponse:
    """Read all that follows the last `[Answer]`, or without one all that is visible."""
    text, error = visible_text(response, require_think=require_think)
    if error:
        return TextResponse(error=error)
    markers = list(_MARKER.finditer(text))
    text = text[markers[-1].end() :].strip() if markers else text.strip()
    return TextResponse(text) if text else TextResponse(error="no answer after the reasoning")


def parse_sentence(response: str, *, require_think: bool = False) -> TextResponse:
    """Read the one answer that a response gives in plain words: what follows the last "answer is", "Answer:" or
    `[Answer]`, to the end of its line. Without any of these, the last line."""
    text, error = visible_text(response, require_think=require_think)
    if error:
        return TextResponse(error=error)
    stated = _statements(_ANSWER_IS, text)
    lines = [stated[-1]] if stated and stated[-1] else _lines(text)
    return TextResponse(lines[-1]) if lines else TextResponse(error="no answer after the reasoning")


def parse_choices(response: str, *, require_think: bool = False) -> LinesResponse:
    """Read what follows each "The correct answer is", or words to that effect, to the end of its line, in order."""
    text, error = visible_text(response, require_think=require_think)
    stated = tuple(statement for statement in _statements(_CHOICE_IS, text) if statement)
    return LinesResponse(stated) if stated else LinesResponse(error=error or 'no "The correct answer is (X)"')


def parse_json(response: str, *, require_think: bool = False, paper_exact: bool = False) -> JsonResponse:
    """Read the JSON in the last `<answer>`, or without one in all that is visible, whatever stands around it.

    paper_exact: the first `<answer>` of the whole response, or the whole response, must be JSON and nothing else; if it
    is not, there are no values and no error.
    """
    if paper_exact:
        text, error = published_text(response)
        area = text.partition("<answer>")[2].partition("</answer>")[0] if "<answer>" in text else text
        try:
            return JsonResponse(error=error) if error else JsonResponse((json.loads(area.strip()),))
        except (ValueError, RecursionError):
            return JsonResponse()
    text, error = visible_text(response, require_think=require_think)
    if error:
        return JsonResponse(error=error)
    tags = [tag for tag in _TAG.finditer(text) if tag[2] == "answer"]
    opened = max((i for i, tag in enumerate(tags) if not tag[1]), default=None)
    if opened is not None:
        closed = tags[opened + 1].start() if opened + 1 < len(tags) else len(text)
        text = text[tags[opened].end() : closed]
    values = tuple(_json_values(text))
    return JsonResponse(values) if values else JsonResponse(error="no JSON object or array in the answer")


def _lines(text: str) -> list[str]:
    """The lines of `text` that say something: neither empty nor a code fence or a ruled line."""
    lines = (line.strip() for line in text.split("\n"))
    return [line for line in lines if line and not _FENCE_OR_RULE.fullmatch(line)]


def _statements(opening: re.Pattern[str], text: str) -> list[str]:
    """What follows each match of `opening`, up to the end of its line or the next match, stripped."""
    found = list(opening.finditer(text))
    ends = [*(match.start() for match in found[1:]), len(text)]
    return [text[match.end() : end].partition("\n")[0].strip() for match, end in zip(found, ends, strict=False)]


def _json_values(text: str) -> Iterator[Any]:
    """Every outermost JSON object or array in `text`. One that is broken is passed over as far as it can be read, so
    that its parts are not taken for answers; after a thousand of these nothing more is expected."""
    decoder, at, failures = json.JSONDecoder(), 0, 0
    while (start := _JSON_START.search(text, at)) and failures < 1000:
        try:
            value, at = decoder.raw_decode(text, start.start())
        except json.JSONDecodeError as error:
            at, failures = max(error.pos, start.end()), failures + 1
        except (ValueError, RecursionError):  # a number of thousands of digits, a thousand brackets
            return
        else:
            yield value


def _breach(found: list[tuple[str, str]]) -> str:
    """The first way in which the tags found differ from the contract, in words."""
    for name in ("useful_chunks", "answer"):
        opened, closed = found.count(("", name)), found.count(("/", name))
        if opened == closed == 0:
            return f"no <{name}> block"
        if opened > 1 and closed > 1:
            return f"{_count(min(opened, closed))} <{name}> blocks, expected one"
        if opened > closed:
            return f"<{name}> without closing tag"
        if closed > opened:
            return f"</{name}> without opening tag"
    order = " ".join(f"<{slash}{name}>" for slash, name in found)
    return f"tags out of order: {order}; expected <useful_chunks> then <answer>"


def _count(number: int) -> str:
    return {2: "two", 3: "three"}.get(number, str(number))


def _blocks(text: str, name: str) -> list[str]:
    """Non-greedy matches of one block, as `re.findall("<name>(.*?)</name>", text, DOTALL)` but in linear
    time."""
    opening, closing, blocks, position = f"<{name}>", f"</{name}>", [], 0
    while (start := text.find(opening, position)) >= 0:
        end = text.find(closing, start + len(opening))
        if end < 0:
            break
        blocks.append(text[start + len(opening) : end])
        position = end + len(closing)
    return blocks


def _parse_as_released(response: str) -> GroundedResponse:
    chunks, answers = _blocks(response, "useful_chunks"), _blocks(response, "answer")
    for name, blocks in (("useful_chunks", chunks), ("answer", answers)):
        if len(blocks) != 1:
            problem = f"no <{name}> block" if not blocks else f"{_count(len(blocks))} <{name}> blocks, expected one"
            return GroundedResponse(error=problem)
    return GroundedResponse(
        tuple(int(digits[:19]) for digits in re.findall(r"<CHUNK_([0-9]+)>", chunks[0])), answers[0].strip()
    )
