"""The tiny benchmark with rules that misbehave at one row each, as a user's own might."""

import time

from support import tiny_benchmark

from recipe.longrl.evaluation.records import Benchmark, Outcome


def only(country, misbehave):
    """A rule that misbehaves at one country and is `substring` for the others."""
    return lambda text, row: misbehave(text, row) if row.cluster == country else tiny_benchmark.substring(text, row)


def spin(text, row):
    while True:
        pass


def wait(text, row):
    time.sleep(1e6)


def devour(text, row):
    return Outcome(float(len(" " * (8 << 30))))


def end(text, row):
    import os

    os._exit(3)


def fail(text, row):
    raise KeyError("gold")


RULES = {
    "published": tiny_benchmark.substring,
    "spin": only("France", spin),
    "wait": only("Italy", wait),
    "devour": only("Spain", devour),
    "end": only("Spain", end),
    "fail": only("Italy", fail),
    "percent": only("France", lambda text, row: Outcome(100.0)),
    "nothing": only("France", lambda text, row: None),
}
BENCHMARK = Benchmark("bad", tiny_benchmark.rows, RULES, "")
HOPELESS = Benchmark("hopeless", tiny_benchmark.rows, {"spin": spin, "published": tiny_benchmark.substring}, "")
