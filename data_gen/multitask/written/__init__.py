"""The tasks that a model writes, by name: each a function from a random source to what the model is asked for."""

from __future__ import annotations

import random
from collections.abc import Callable

from data_gen.multitask.written.brief import Brief
from data_gen.multitask.written.choice import choice
from data_gen.multitask.written.options import WriteOptions
from data_gen.multitask.written.qa import qa
from data_gen.multitask.written.summary import summary

BRIEFS: dict[str, Callable[[random.Random, WriteOptions], Brief]] = {"qa": qa, "choice": choice, "summary": summary}
