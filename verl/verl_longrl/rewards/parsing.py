r"""What a response says, and why it cannot be read when it cannot.

The contract: reasoning closed by `</think>` (its opening tag may be in the prompt), then exactly one
`<useful_chunks>` block naming chunks as `<CHUNK_i>`, then exactly one `<answer>` block. Only the text after
the last `</think>` counts, so tags rehearsed while thinking neither help nor hurt. Everything here runs in
linear time: there is no input that makes it slow.

KeyChain, plain QA, retrieval, choice and math answer in the last `\boxed{...}`, with nothing between the word and its
brace. An earlier box is a draft; a box that never closes is a breach, not a reason to go back to an earlier one.

`paper_exact` reads grounded responses as the released LongRLVR code does: the whole text including the reasoning, tags
in any order, exactly one non-greedy match of each. It reads boxed ones as LoongRL is published: `</think>` is required,
stars are removed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

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
