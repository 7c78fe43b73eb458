"""Register scorers, and find the one that scores a sample by its `data_source`.

    @scorer("my_task", patterns=("my_task_*",), gold=my_reader)
    def my_scorer(response, ground_truth, extra_info, options) -> Score: ...

Exact names win over patterns, longer patterns over shorter ones. `load_scorers` imports a user's modules or files, in
this process and in every isolation worker. `gold` reads the ground truth of a row as the scorer does: validation calls
it for every row, so a row that cannot be scored is reported before training. Without `gold`, it is reported when it is
scored.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from verl_longrl.rewards.options import RewardOptions
from verl_longrl.rewards.score import Score

Scorer = Callable[[str, Any, Mapping[str, Any], RewardOptions], Score]
"""(response, ground_truth, extra_info, options) -> Score: synchronous and pure, so it may be called twice."""

GoldReader = Callable[[Any, Mapping[str, Any]], Any]
"""(ground_truth, extra_info) -> the gold answer in the form that the scorer compares with.

Raises ValueError, preferably a `GoldError`, for a row that cannot be scored. It must be fast: it runs once for every
row at every start.
"""

_names: dict[str, Scorer] = {}
_patterns: dict[str, Scorer] = {}
_readers: dict[Scorer, GoldReader] = {}


class GoldError(ValueError):
    """A row that cannot be scored, whatever the response.

    >>> print(GoldError("?!", "has nothing to compare", "a non-empty answer"))
    ground_truth = '?!': has nothing to compare. Fix: write a non-empty answer
    """

    def __init__(self, value: Any, problem: str, expected: str, column: str = "ground_truth"):
        super().__init__(f"{column} = {repr(value)[:200]}: {problem}. Fix: write {expected}")
        self.value, self.problem, self.expected, self.column = value, problem, expected, column


def scorer(
    *names: str, patterns: Iterable[str] = (), replace: bool = False, gold: GoldReader | None = None
) -> Callable[[Scorer], Scorer]:
    """Register the decorated function under `names` (exact) and `patterns` (shell wildcards).

    gold: reads the ground truths of the function's rows. Raises ValueError when another function is registered under a
    name already, unless `replace` is set.
    """

    def register(function: Scorer) -> Scorer:
        for table, keys in ((_names, names), (_patterns, tuple(patterns))):
            for key in keys:
                registered_function = table.get(key)
                # A module that is loaded again registers its functions anew, so the origin counts, not the object.
                if registered_function and _origin(registered_function) != _origin(function) and not replace:
                    raise ValueError(
                        f"data_source = {key!r}: already scored by {_origin(registered_function)}, so "
                        f"{_origin(function)} cannot be registered. Fix: choose another name, or set replace=True"
                    )
                table[key] = function
        if gold is not None:
            _readers[function] = gold
        return function

    return register


def resolve(data_source: str) -> Scorer:
    """The scorer of `data_source`. Raises LookupError naming the nearest registered ones, also for other types."""
    if isinstance(data_source, str):
        if data_source in _names:
            return _names[data_source]
        matching = [pattern for pattern in _patterns if fnmatchcase(data_source, pattern)]
        if matching:
            return _patterns[max(matching, key=len)]
    raise LookupError(
        f"data_source = {repr(data_source)[:200]}: {describe_unknown(data_source)}. Fix: correct "
        "the data_source column, or register a scorer with @scorer and list its module in longrl.reward.scorers"
    )


def describe_unknown(data_source: str) -> str:
    """The problem with a `data_source` that does not resolve, in words."""
    near = difflib.get_close_matches(str(data_source)[:200], registered(), n=3, cutoff=0.0)
    return f"no scorer has this name; nearest registered: {', '.join(near)}"


def check_gold(data_source: str, ground_truth: Any, extra_info: Mapping[str, Any]) -> None:
    """Read a ground truth as the scorer of `data_source` does, if it has registered a reader.

    Raises what the reader raises, and LookupError as `resolve` does.
    """
    reader = _readers.get(resolve(data_source))
    if reader is not None:
        reader(ground_truth, extra_info)


def registered() -> list[str]:
    """All names and patterns that resolve, sorted."""
    return sorted({*_names, *_patterns})


def load_scorers(sources: Iterable[str]) -> dict[str, Scorer]:
    """Import modules ("pkg.module") and files ("path/to/file.py") so that their @scorer decorators run.

    A source that is loaded already is not loaded again. Returns the names and patterns that the sources registered,
    with their scorers. Raises ImportError, which names the source and its problem.
    """
    loaded: dict[str, Scorer] = {}
    for source in sources:
        before = {**_patterns, **_names}
        module = _load_file(source) if source.endswith(".py") else _load_module(source)
        for name, function in {**_patterns, **_names}.items():
            if before.get(name) is not function or f"{function.__module__}.".startswith(f"{module}."):
                loaded[name] = function
    return loaded


def _load_module(source: str) -> str:
    """Import a module and return its name."""
    try:
        return importlib.import_module(source).__name__
    except ModuleNotFoundError as error:
        raise ImportError(
            f"scorers = {source!r}: cannot be imported ({error}). Fix: name an importable module or a .py file"
        ) from error


def _load_file(source: str) -> str:
    """Load a file as a module, once, and return the name of that module."""
    path = Path(source).resolve()
    if not path.is_file():
        raise ImportError(f"scorers = {source!r}: no such file (looked at {path}). Fix: give an existing .py file")
    name = f"longrl_scorers_{path.stem}_{hashlib.sha1(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return name
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"scorers = {source!r}: cannot be loaded. Fix: give a Python source file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return name


def _origin(function: Scorer) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', repr(function))}"
