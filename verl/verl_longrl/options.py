"""Settings as classes: each field has a type, bounds, a default and documentation, all written once.

A group of options is a frozen pydantic dataclass with `Options` as its base:

    @dataclass(frozen=True)
    class FilterOptions(Options):
        \"\"\"Which rows are kept.\"\"\"

        rate: Share = 0.5
        \"\"\"Rows with a lower pass rate are dropped.\"\"\"
        keep: Literal["all", "solved"] = "all"
        \"\"\"Rows kept besides those.\"\"\"
        limit: Annotated[int, Ge(1), Le(1000)] | None = None
        \"\"\"Rows of one file; null: all.\"\"\"
        files: OneOrMore = ()
        \"\"\"A list of strings, for which a single string may be given. Other lists are `tuple[X, ...]`.\"\"\"

`dataclass` comes from `pydantic.dataclasses`; `Ge`, `Gt`, `Le` and `Lt` from `annotated_types`; `PositiveInt` and the
like from `pydantic`. Values are not converted: "2" and true are not numbers; an integer is a number, and a list becomes
a tuple.

A rule that is not a bound goes into `__post_init__`, which raises `OptionError` with the key's name inside the group;
`Options.from_dict(values, path)` puts the path in front of it. `Annotated[X, INTERNAL]` marks a field that users cannot
set. A subclass that changes a default repeats the field and its documentation. A mutable default or a group inside a
group is `field(default_factory=...)`, with `field` of the standard library.

`docs/configuration.md` is generated from these classes (`recipe/longrl/options_page.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BeforeValidator, ConfigDict, GetCoreSchemaHandler, ValidationError, ValidationInfo
from pydantic_core import core_schema

from verl_longrl.secrets import redact

Share = Annotated[float, Ge(0), Le(1)]
"""A number from 0 to 1."""
OneOrMore = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
"""A list of strings; a single string is a list of one."""


class OptionError(ValueError):
    """A value that contradicts another one, raised in `__post_init__`.

    Args:
        key: the key's name inside its group, such as "endpoints" or "phases[0]".
        value: what it was set to.
        problem: what is wrong with it, without a full stop.
        fix: what the user should do, without a full stop.
    """

    def __init__(self, key: str, value: object, problem: str, fix: str):
        super().__init__(key, value, problem, fix)
        self.key, self.value, self.problem, self.fix = key, value, problem, fix

    def __str__(self) -> str:
        return self.at("")

    def at(self, path: str) -> str:
        """The message, with the path of the group in front of the key."""
        return _problem(f"{path}{self.key}", self.value, self.problem, self.fix)


class _InternalKeyError(ValueError):
    """A key of a configuration that only code may set."""


_CONFIGURATION = object()
"""pydantic's context while a user's configuration is read."""


def _refuse_internal(value: Any, info: ValidationInfo) -> Any:
    if info.context is _CONFIGURATION:
        raise _InternalKeyError
    return value


INTERNAL = BeforeValidator(_refuse_internal)
"""Marks a field that code sets and a configuration cannot."""


class Options:
    """Base of all groups of options. See the module's documentation for how to write one."""

    # pydantic's own messages would quote the values, which may be secrets.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None, path: str = "") -> Self:
        """Build from a plain mapping, a resolved configuration node, in which nested groups are mappings too.

        Args:
            values: the keys that are set; all others have their defaults.
            path: put in front of the keys in messages, such as "longrl.reward.".

        Raises:
            ValueError: unknown keys or wrong values, one line for each of them: `longrl.reward.eta = 2: expected a
                number of at least 0 and at most 1. Fix: ...`.
        """
        if not isinstance(values, Mapping | None):
            key = path.rstrip(".")
            raise ValueError(_problem(key, values, f"expected {describe(cls)}", _fix(key, values, cls)))
        try:
            return cls.__pydantic_validator__.validate_python(dict(values or {}), context=_CONFIGURATION)  # type: ignore[attr-defined,no-any-return]
        except ValidationError as error:
            lines = [_explain(cls, problem, path) for problem in error.errors(include_url=False)]
            raise ValueError(redact("\n".join(lines))) from None

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The defaults as a plain dictionary for `from_dict`, without the keys that must be set."""
        values = {name: default_of(cls, name) for name in public_fields(cls)}
        return {name: _plain(value) for name, value in values.items() if value is not MISSING}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Values are strict, but containers are what YAML has: mappings for groups, lists for tuples, null for an empty
        group."""
        reference = handler(source)
        schema: Any = handler.resolve_ref_schema(reference)
        # For a group inside a group, pydantic has kept the schema that this method returned before.
        if schema["type"] != "dataclass":
            return reference
        schema["strict"] = False
        for field in schema["schema"]["fields"]:
            _accept_yaml_containers(field["schema"])
        return core_schema.no_info_before_validator_function(lambda value: {} if value is None else value, reference)


def _accept_yaml_containers(schema: Any) -> None:
    """In place: a list is accepted as a tuple, and a number as the name of a key."""
    if schema["type"] == "tuple":
        schema["strict"] = False
        for item in schema["items_schema"]:
            _accept_yaml_containers(item)
    elif schema["type"] == "dict":
        if schema["keys_schema"]["type"] == "str":
            schema["keys_schema"] |= {"strict": False, "coerce_numbers_to_str": True}
        _accept_yaml_containers(schema["values_schema"])
    elif schema["type"] != "dataclass" and "schema" in schema:
        _accept_yaml_containers(schema["schema"])


def _plain(value: Any) -> Any:
    """Groups as dictionaries and tuples as lists."""
    if isinstance(value, Options):
        return {name: _plain(getattr(value, name)) for name in public_fields(type(value))}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def public_fields(group: type[Options]) -> dict[str, Any]:
    """The fields of a group that a user may set: name -> type, with its bounds."""
    hints = get_type_hints(group, include_extras=True)
    return {
        field.name: hints[field.name]
        for field in fields(group)  # type: ignore[arg-type]
        if field.init and INTERNAL not in _parts(hints[field.name])[1]
    }


def default_of(group: type[Options], name: str) -> Any:
    """The default of a field; `dataclasses.MISSING` for one that must be set."""
    info = group.__pydantic_fields__[name]  # type: ignore[attr-defined]
    return MISSING if info.is_required() else info.get_default(call_default_factory=True)


def strip_annotation(annotation: Any) -> Any:
    """A type without its bounds and without None: `int` of `Annotated[int, Ge(1)] | None`."""
    return _parts(annotation)[0]


def describe(annotation: Any) -> str:
    """The values that a field takes, such as "a number of at least 0 and at most 1, or null"."""
    kind, bounds, optional = _parts(annotation)
    return f"{_describe_kind(kind)}{_describe_bounds(kind, bounds)}{', or null' if optional else ''}"


def _parts(annotation: Any) -> tuple[Any, list[Any], bool]:
    """A type without Annotated and None, what Annotated adds to it, and whether it may be None."""
    if get_origin(annotation) is Annotated:
        kind, metadata, optional = _parts(get_args(annotation)[0])
        return kind, [*metadata, *annotation.__metadata__], optional
    if get_origin(annotation) in (Union, UnionType) and NoneType in get_args(annotation):
        (inner,) = (each for each in get_args(annotation) if each is not NoneType)
        kind, metadata, _ = _parts(inner)
        return kind, metadata, True
    return annotation, [], False


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", Any: "any value"}


def _describe_kind(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        return "a list of strings" if item is str else f"a list, each item {describe(item)}"
    if get_origin(kind) is dict:
        value = get_args(kind)[1]
        return "keys and values: {key: value}" + ("" if value is Any else f", each value {describe(value)}")
    if is_dataclass(kind):
        return f"a group of keys ({', '.join(public_fields(kind))})"  # type: ignore[arg-type]
    return _KINDS.get(kind, str(kind))


def _describe_bounds(kind: Any, metadata: Sequence[Any]) -> str:
    words = []
    for bound in metadata:
        if isinstance(bound, Ge) or (isinstance(bound, Gt) and kind is int):
            lowest: Any = bound.ge if isinstance(bound, Ge) else bound.gt + 1  # type: ignore[operator]
            words.append(f"of at least {lowest:g}")
        elif isinstance(bound, Gt):
            words.append(f"above {bound.gt:g}")  # type: ignore[str-format]
        elif isinstance(bound, Le):
            words.append(f"{'' if words else 'of '}at most {bound.le:g}")  # type: ignore[str-format]
        elif isinstance(bound, Lt):
            words.append(f"below {bound.lt:g}")  # type: ignore[str-format]
    return f" {' and '.join(words)}" if words else ""


def _explain(cls: type[Options], problem: Any, path: str) -> str:
    """One of pydantic's errors in our words: `key = value: problem. Fix: ...`."""
    location = [part for part in problem["loc"] if part != "[key]"]
    value, cause = problem["input"], problem.get("ctx", {}).get("error")
    key = path + _dotted(location)
    if isinstance(cause, OptionError):
        return cause.at(f"{key}." if location else path)
    if problem["type"] == "unexpected_keyword_argument" or isinstance(cause, _InternalKeyError):
        return _unknown_key(cls, location, value, path)
    if cause is not None and is_dataclass(_parts(_types_at(cls, location)[-1])[0]):
        place = key.rstrip(".")
        return f"{place}: {cause}" if place else str(cause)
    if cause is not None:
        return f"{key} = {written(value)}: {cause}"
    parent, annotation = _types_at(cls, location)[-2:]
    if problem["type"] == "missing":
        return f"{key} is missing: expected {describe(annotation)}. Fix: set it"
    fix = _fix(key, value, _parts(annotation)[0])
    if not fix:
        default = default_of(_parts(parent)[0], location[-1]) if is_dataclass(_parts(parent)[0]) else MISSING
        fix = "correct it" + ("" if default is MISSING else f", or leave it out (default: {written(default)})")
    return _problem(key, value, f"expected {describe(annotation)}", fix)


def _fix(key: str, value: object, kind: Any) -> str:
    """The value to write instead of one of the wrong kind; "" if there is no good guess."""
    if is_dataclass(kind):
        names = public_fields(kind)  # type: ignore[arg-type]
        meant = next((name for name, each in names.items() if value in get_args(_parts(each)[0])), None)
        return f"write {key}.{meant}={value}" if meant else f"set one of them, such as {key}.{next(iter(names))}=..."
    if get_origin(kind) is tuple and isinstance(value, str | int | float):
        return f"write {key}=[{written(value)}]"
    if get_origin(kind) is Literal:
        near = difflib.get_close_matches(str(value), get_args(kind), n=1, cutoff=0.0)
        return f"use one of them; the nearest is {near[0]}"
    return ""


def _unknown_key(cls: type[Options], location: Sequence[Any], value: object, path: str) -> str:
    *parents, name = location
    known = public_fields(_parts(_types_at(cls, parents)[-1])[0])
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)
    group = path + "".join(f"{_dotted(parents)}." if parents else "")
    fix = f"use a valid key; the nearest is {group}{near[0]} (valid: {', '.join(sorted(known))})"
    return _problem(f"{group}{name}", value, "unknown key", fix)


def _types_at(cls: type[Options], location: Sequence[Any]) -> list[Any]:
    """The types on the way to a value: the class itself, then one for each part of the location."""
    types: list[Any] = [cls]
    for part in location:
        kind = _parts(types[-1])[0]
        if is_dataclass(kind):
            types.append(get_type_hints(kind, include_extras=True).get(part, Any))
        else:  # dict[str, X] or tuple[X, ...]
            types.append(get_args(kind)[1 if get_origin(kind) is dict else 0] if get_args(kind) else Any)
    return types


def _dotted(location: Sequence[Any]) -> str:
    """("servers", "a", "endpoints", 0) as servers.a.endpoints[0]."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def _problem(key: str, value: object, problem: str, fix: str) -> str:
    return f"{key} = {written(value)}: {problem}. Fix: {fix}"


def written(value: object) -> str:
    """A value as it is written in YAML, cut after 200 characters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 200 else f"{text[:200]}..."
