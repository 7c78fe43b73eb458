r"""Read the answer out of a response, or say why it cannot be read.

The contract of grounded responses: reasoning closed by `</think>` (its opening tag may be in the prompt), then exactly
one `<useful_chunks>` block with chunks named as `<CHUNK_i>`, then exactly one `<answer>` block. Only the text after the
last `</think>` counts, so tags rehearsed while thinking neither help nor hurt. Everything here runs in linear time: no
input makes it slow.

KeyChain, plain QA, retrieval, choice and math answer in the last `\boxed{...}`, with nothing between the word and its
brace. An earlier box is a draft; a box that never closes breaks the format and is not a reason to use an earlier one.

GoLongRL's tasks answer in the lines after the last `[Answer]` (or `[答案]`), in JSON (in the last `<answer>`, in a code
fence or bare), or in a sentence: "The correct answer is (X)", "The answer is X".

| after the reasoning | read by | answer |
|---|---|---|
| `<useful_chunks><CHUNK_3></useful_chunks><answer> Paris </answer>` | `parse_grounded` | cited 3, "Paris" |
| `I think \boxed{Rome}, no: \boxed{\text{Paris}}` | `parse_boxed` | "\text{Paris}" |
| `[Answer]` and the lines `Paris`, an empty one, `Rome` | `parse_lines` | "Paris", "Rome" |
| `The answer is Rome. Wait. The answer is Paris` | `parse_sentence` | "Paris" |
| `The correct answer is (B) because of C` | `parse_choices` | "(B) because of C" |
| `Here: [{"a": 1}]` | `parse_json` | [{"a": 1}] |

With `paper_exact`, grounded responses are read as the released LongRLVR code reads them: the whole text including the
reasoning, tags in any order, exactly one non-greedy match of each. Boxed responses are read as LoongRL publishes it:
`</think>` is required and stars are removed. GoLongRL, as published, requires exactly one `</think>` and at most one
`<think>` (`published_text`), and then searches the whole text, reasoning included, for most answers.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from verl_longrl.rewards.matching import lenient_json

T = TypeVar("T")
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
MAX_VISIBLE_CHARS = 1_000_000
"""No answer is longer, and the time to read one stays bounded."""

# All repetitions below are bounded ({0,8}, not *): an unbounded one next to another makes a search quadratic.
_TAG = re.compile(r"<\s{0,4}(/?)\s{0,4}(useful_chunks|answer)\s{0,4}>")
_CHUNK = re.compile(r"<\s{0,4}CHUNK_\s{0,4}([0-9]+)\s{0,4}>")
_BOX = "\\boxed{"
# A backslash takes the next character with it, so an escaped brace counts as text: \boxed{\{1, 2\}} closes at the end.
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_ANSWER_LINE = re.compile(
    r"(?:answer[*_`\s]{0,6}[:：]|\banswer[ \t]{1,4}is\b|####(?=[ \t]{0,4}[-+$€£]{0,2}\.?[0-9]))([^\n]*)", re.IGNORECASE
)
# Markdown's rule: a run of marks opens emphasis before a character that is not white space, after one that is not a
# letter, and closes it the other way round. So 2**3, 2 * 3 and x_1 have no emphasis.
_EMPHASIS = re.compile(r"(?<![\w)\]}\\*_`])[*_`]{1,4}(?=[^\s*_`])|(?<=[^\s*_`\\])[*_`]{1,4}(?![\w(\[{\\*_`])")
_SPACE_COMMAND = re.compile(r"\\(?:q?quad(?![A-Za-z])|[ ,;:!])")
_TEXT_COMMAND = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|up|normal)?|math(?:bf|it|rm|sf|tt)|mbox)(?![A-Za-z])|(?<!\\)[{}]"
)
_MARKER = re.compile(r"[\[［【][ \t]{0,4}(?:answer|答案)[ \t]{0,4}[\]］】][ \t*:：]{0,8}", re.IGNORECASE)
_MARKERS_AS_RELEASED = ("[Answer]", "[答案]")
_FENCE_OR_RULE = re.compile(r"`{3,9}[\w+-]{0,20}|[-=_*]{3,}")
_CHINESE_IS = r"[ \t]{0,4}(?:应?[是为]|[:：])"
_ANSWER_IS = re.compile(
    rf"(?:\banswer[*_`]{{0,3}}[ \t]{{0,4}}(?:is\b|[:：])|答案{_CHINESE_IS}|{_MARKER.pattern})[\s:：]{{0,8}}",
    re.IGNORECASE,
)
_CHOICE = (
    r"(?:\bans(?:wer)?\.?(?:[ \t](?:to|for)\b[^\n.:]{1,60}?)?"
    r"|\b(?:correct|right|best|final|my)[ \t]{1,4}(?:option|choice))"
)
_IS = r"[ \t]{0,4}(?:(?:is|was|(?:must|should|would|will|has[ \t]to|can[ \t]only)[ \t]be)\b|[:：=])"
_I_CHOOSE = r"\bI(?:['’](?:d|ll)|[ \t](?:would|will))?[ \t](?:choose|pick|select|go[ \t]with)\b"
_MUST_BE = r"\bit[ \t](?:must|has[ \t]to|can[ \t]only)[ \t]be\b"
_LETTER = r"(?:\([A-Z]\)|\[[A-Z]\]|[A-Z]\b)"
_IS_CORRECT = r"[ \t]is[ \t](?:the[ \t])?(?:correct|right|best)(?:[ \t](?:answer|option|choice|one))?"
_SENTENCE_START = r"(?:^|[.!?;,][ \t])[ \t]{0,4}(?:(?:so|thus|hence|therefore),?[ \t])?"
_LINE_END = r"[ \t.!]{0,4}(?=\n|\Z)"
_CHOICE_IS = re.compile(
    rf"(?:{_CHOICE}{_IS}|(?:答案|选项){_CHINESE_IS}|{_I_CHOOSE}|{_MUST_BE})[\s:：]{{0,8}}"
    # "Option B" on a line of its own, and "(B) is the correct answer." at the end of one.
    rf"|^[ \t]{{0,8}}(?=(?:option|choice)[ \t]{_LETTER}{_LINE_END})"
    rf"|{_SENTENCE_START}(?=(?:option[ \t]|choice[ \t])?{_LETTER}{_IS_CORRECT}{_LINE_END})",
    re.IGNORECASE | re.MULTILINE,
)
_CONTRACT = [("", "useful_chunks"), ("/", "useful_chunks"), ("", "answer"), ("/", "answer")]


@dataclass(frozen=True)
class GroundedResponse:
    """The citations and the answer of a grounded response."""

    cited: tuple[int, ...] = ()
    """The chunk ids in order, with duplicates."""
    answer: str = ""
    """The answer, stripped; it may be empty."""
    error: str = ""
    """The reason why the response breaks the contract; empty when it keeps it."""


@dataclass(frozen=True)
class Parsed(Generic[T]):
    """The answer of a response in one of the other formats."""

    answer: T
    """Text, lines or JSON values, as the function that returns it says; empty when there is an error."""
    error: str = ""
    """The reason why there is no answer to read; empty when there is one."""


def visible_text(response: str, *, require_think: bool = False) -> tuple[str, str]:
    """The text after the last `</think>`, and the reason why there is none ("" when there is one).

    Without any `</think>` the whole text is visible, unless the response opens `<think>` (the reasoning never ended) or
    `require_think` is set. More than `MAX_VISIBLE_CHARS` are not read.

    >>> visible_text("<think>5 or 6?</think>It is 6.")
    ('It is 6.', '')
    >>> visible_text("<think>5 or 6?")
    ('', '<think> without </think>: the reasoning never ended')
    """
    _, closed, text = response.rpartition(THINK_CLOSE)
    if len(text) > MAX_VISIBLE_CHARS:
        return "", f"{len(text)} characters after the reasoning, expected at most {MAX_VISIBLE_CHARS}"
    if THINK_OPEN in text:
        return "", "<think> without </think>: the reasoning never ended"
    if require_think and not closed:
        return "", "no </think>: the reasoning never ended"
    return text, ""


def cited_chunks(text: str) -> tuple[int, ...]:
    """Every id named as `<CHUNK_i>` in `text`, in order, duplicates kept; spaces inside the tag are tolerated."""
    # 19 digits are beyond any document; int() of a very long number would take quadratic time.
    return tuple(int(digits[:19]) for digits in _CHUNK.findall(text))


def parse_grounded(response: str, *, require_think: bool = False, paper_exact: bool = False) -> GroundedResponse:
    """Read a grounded response. Never raises: the reason why it breaks the contract is in `error`."""
    if paper_exact:
        return _parse_as_released(response)
    text, error = visible_text(response, require_think=require_think)
    if error:
        return GroundedResponse(error=error)
    tags = list(_TAG.finditer(text))
    sequence = [(tag[1], tag[2]) for tag in tags]
    if sequence != _CONTRACT:
        return GroundedResponse(error=_breach(sequence))
    chunks = text[tags[0].end() : tags[1].start()]
    answer = text[tags[2].end() : tags[3].start()]
    return GroundedResponse(cited_chunks(chunks), answer.strip())


def parse_boxed(
    response: str, *, require_think: bool = False, answer_line: bool = False, paper_exact: bool = False
) -> Parsed[str]:
    """Read the text in the last box, stripped; it may be empty.

    answer_line: without any box, the rest of the line after the last "Answer:" (DAPO's prompts ask for it), "the answer
    is", or "####" before a number (GSM8K) counts.
    """
    if paper_exact and THINK_CLOSE in response:
        text, error = response.rpartition(THINK_CLOSE)[2].replace("*", ""), ""
    else:
        text, error = visible_text(response, require_think=require_think or paper_exact)
    if error:
        return Parsed("", error=error)
    _, box, after = text.rpartition(_BOX)
    if box:
        return _text_to_closing_brace(after)
    lines = _ANSWER_LINE.findall(text) if answer_line else []
    return Parsed(lines[-1].strip(" \t\r*_`:：")) if lines else Parsed("", error="no \\boxed{} in the answer")


def _text_to_closing_brace(text: str) -> Parsed[str]:
    """The text up to the brace that closes a box opened right before it."""
    depth = 1
    for brace in _BRACE.finditer(text):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return Parsed(text[: brace.start()].strip())
    return Parsed("", error="the last \\boxed{ has no closing brace")


def plain_text(latex: str) -> str:
    r"""`latex` without text commands, spaces and braces; anything else stays as it is.

    >>> plain_text(r"\text{New\ York}")
    'New York'
    """
    return _TEXT_COMMAND.sub("", _SPACE_COMMAND.sub(" ", latex)).strip()


def without_emphasis(text: str) -> str:
    """`text` without Markdown's marks of emphasis and code.

    >>> without_emphasis("is **12**, not `2**3` * x_1")
    'is 12, not 2**3 * x_1'
    """
    return _EMPHASIS.sub("", text)


def published_text(response: str) -> tuple[str, str]:
    """The whole response, and the reason why GoLongRL's released code gives it no reward ("" if there is none)."""
    opened, closed = response.count(THINK_OPEN), response.count(THINK_CLOSE)
    if closed != 1 or opened > 1:
        return "", f"{opened} <think> and {closed} </think>, expected one </think> and at most one <think>"
    return response, ""


def parse_lines(response: str, *, require_think: bool = False, paper_exact: bool = False) -> Parsed[tuple[str, ...]]:
    """Read the lines after the last `[Answer]` or `[答案]`, stripped and not empty.

    Code fences and ruled lines are skipped. paper_exact: the lines after the last `[Answer]`, else `[答案]`, else those
    of the whole response, reasoning included; empty lines are kept.
    """
    if paper_exact:
        text, error = published_text(response)
        marker = next((marker for marker in _MARKERS_AS_RELEASED if marker in text), None)
        area = text.rpartition(marker)[2] if marker else text
        return Parsed((), error=error) if error else Parsed(tuple(area.strip().split("\n")))
    text, error = visible_text(response, require_think=require_think)
    if error:
        return Parsed((), error=error)
    markers = list(_MARKER.finditer(text))
    if not markers:
        return Parsed((), error="no [Answer] after the reasoning")
    lines = _lines(text[markers[-1].end() :])
    return Parsed(tuple(lines)) if lines else Parsed((), error="nothing after [Answer]")


def parse_text(response: str, *, require_think: bool = False) -> Parsed[str]:
    """Read all text after the last `[Answer]`, or after the reasoning if there is none; stripped, never empty."""
    text, error = visible_text(response, require_think=require_think)
    if error:
        return Parsed("", error=error)
    markers = list(_MARKER.finditer(text))
    text = text[markers[-1].end() :].strip() if markers else text.strip()
    return Parsed(text) if text else Parsed("", error="no answer after the reasoning")


def parse_sentence(response: str, *, require_think: bool = False) -> Parsed[str]:
    """Read the one answer that a response gives in plain words; never empty.

    It is the rest of the line after the last "answer is", "Answer:" or `[Answer]`. Without any of these it is the last
    line.
    """
    text, error = visible_text(response, require_think=require_think)
    if error:
        return Parsed("", error=error)
    stated = _statements(_ANSWER_IS, text)
    lines = [stated[-1]] if stated and stated[-1] else _lines(text)
    return Parsed(lines[-1]) if lines else Parsed("", error="no answer after the reasoning")


def parse_choices(response: str, *, require_think: bool = False) -> Parsed[tuple[str, ...]]:
    """Read the rest of the line after each "The correct answer is", or words to that effect, in order.

    "Option B" on a line of its own, and "(B) is the correct answer." at the end of a line, are read too.
    """
    text, error = visible_text(response, require_think=require_think)
    stated = tuple(statement for statement in _statements(_CHOICE_IS, without_emphasis(text)) if statement)
    return Parsed(stated) if stated else Parsed((), error=error or 'no "The correct answer is (X)"')


def parse_json(response: str, *, require_think: bool = False, paper_exact: bool = False) -> Parsed[tuple[Any, ...]]:
    """Read the JSON objects and arrays in the last `<answer>`, or in the text after the reasoning, as Python values.

    Text around them is ignored, and so are trailing commas and single quotes (`lenient_json.py`). paper_exact: the
    first `<answer>` of the whole response, or else the whole response, must be JSON and nothing else; if it is not,
    there are no values and no error.
    """
    if paper_exact:
        text, error = published_text(response)
        area = text.partition("<answer>")[2].partition("</answer>")[0] if "<answer>" in text else text
        try:
            return Parsed((), error=error) if error else Parsed((json.loads(area.strip()),))
        except (ValueError, RecursionError):
            return Parsed(())
    searched = parse_answer_area(response, require_think=require_think)
    values = tuple(lenient_json.find_values(searched.answer))
    return Parsed(values) if values else Parsed((), error=searched.error or "no JSON object or array in the answer")


def parse_answer_area(response: str, *, require_think: bool = False) -> Parsed[str]:
    """Read the text in the last `<answer>`, or without one all text after the reasoning."""
    text, error = visible_text(response, require_think=require_think)
    tags = [tag for tag in _TAG.finditer(text) if tag[2] == "answer"]
    opened = max((i for i, tag in enumerate(tags) if not tag[1]), default=None)
    if opened is not None:
        closed = tags[opened + 1].start() if opened + 1 < len(tags) else len(text)
        text = text[tags[opened].end() : closed]
    return Parsed(text, error)


def _lines(text: str) -> list[str]:
    """The lines of `text`, stripped, without empty ones, code fences and ruled lines."""
    lines = (line.strip() for line in text.split("\n"))
    return [line for line in lines if line and not _FENCE_OR_RULE.fullmatch(line)]


def _statements(opening: re.Pattern[str], text: str) -> list[str]:
    """The text after each match of `opening`, up to the end of its line or the next match, stripped."""
    openings = list(opening.finditer(text))
    ends = [*(match.start() for match in openings[1:]), len(text)]
    return [text[match.end() : end].partition("\n")[0].strip() for match, end in zip(openings, ends, strict=False)]


def _breach(tags: list[tuple[str, str]]) -> str:
    """The first way in which the tags of a response differ from the contract, in words."""
    for name in ("useful_chunks", "answer"):
        opened, closed = tags.count(("", name)), tags.count(("/", name))
        if opened == closed == 0:
            return f"no <{name}> block"
        if opened > 1 and closed > 1:
            return f"{_count(min(opened, closed))} <{name}> blocks, expected one"
        if opened > closed:
            return f"<{name}> without closing tag"
        if closed > opened:
            return f"</{name}> without opening tag"
    order = " ".join(f"<{slash}{name}>" for slash, name in tags)
    return f"tags out of order: {order}; expected <useful_chunks> then <answer>"


def _count(number: int) -> str:
    return {2: "two", 3: "three"}.get(number, str(number))


def _blocks(text: str, name: str) -> list[str]:
    """Non-greedy matches of one block, as `re.findall("<name>(.*?)</name>", text, DOTALL)` but in linear time."""
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
