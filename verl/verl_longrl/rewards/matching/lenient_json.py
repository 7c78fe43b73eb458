"""Decode JSON as models write it: with single quotes, trailing commas, or Python's None, True and False.

Strict JSON is decoded by `json`. Anything else is parsed as a Python literal and never evaluated. No input is slow: a
long text that is not strict JSON is refused.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator
from typing import Any

MAX_LITERAL_CHARS = 200_000
"""A longer text must be strict JSON."""
_MAX_FAILURES = 1000
_MAX_SCANNED_CHARS = 1_000_000
_NAMES = {"null": None, "true": True, "false": False, "NaN": None}
# The start of an object or array that is likely to be JSON, not prose in brackets.
_START = re.compile(r"\{(?=\s{0,99}[\"'}])|\[(?=\s{0,99}[\[{\"'\]\-0-9tfnNTF])")
# An escaped character, a string, or a bracket. The first of these keeps the search linear.
_PIECE = re.compile(r"""\\.|"[^"\\]*(?:\\.[^"\\]*)*"|'[^'\\]*(?:\\.[^'\\]*)*'|[\[\]{}]""", re.DOTALL)


def decode(text: str) -> Any:
    """The value that `text` spells. Raises ValueError.

    >>> decode("{'a': [1, 2.5, None,], 'b': true}")
    {'a': [1, 2.5, None], 'b': True}
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _decode_literal(text)


def find_values(text: str) -> Iterator[Any]:
    """Every outermost object or array in `text`.

    A broken one is skipped as far as it can be read, so that its parts are not taken for answers. The search ends after
    a thousand of these.
    """
    decoder, at, failures, budget = json.JSONDecoder(), 0, 0, _MAX_SCANNED_CHARS
    while (start := _START.search(text, at)) and failures < _MAX_FAILURES:
        try:
            value, at = decoder.raw_decode(text, start.start())
        except json.JSONDecodeError as error:
            limit = min(start.start() + min(budget, MAX_LITERAL_CHARS), len(text))
            literal = text[start.start() : _end(text, start.start(), limit)]
            budget -= len(literal) or limit - start.start()
            try:
                value, at = _decode_literal(literal), start.start() + len(literal)
            except ValueError:
                at, failures = max(error.pos, start.end()), failures + 1
                continue
        except (ValueError, RecursionError):
            # A number of thousands of digits, or a thousand nested brackets.
            return
        yield value


def _end(text: str, start: int, limit: int) -> int:
    """The end of the value that begins at `start`, by counting brackets outside strings; `start` if it has none."""
    depth = 0
    for piece in _PIECE.finditer(text, start, limit):
        depth += (piece[0] in "[{") - (piece[0] in "]}")
        if depth == 0:
            return piece.end()
    return start


def _decode_literal(text: str) -> Any:
    if len(text) > MAX_LITERAL_CHARS:
        raise ValueError(f"longer than {MAX_LITERAL_CHARS} characters and not JSON")
    try:
        with warnings.catch_warnings():
            # Python warns of escapes that only JSON has.
            warnings.simplefilter("ignore")
            return _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"neither JSON nor a Python literal: {error}") from None


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.Name(id=name) if name in _NAMES:
            return _NAMES[name]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values) if all(keys):
            return {str(_value(key)): _value(item) for key, item in zip(keys, values, strict=True) if key}
        case _:
            raise ValueError(f"not a value: {type(node).__name__}")
