"""The tasks that a model writes, by name: each a function from a random source to what the model is asked for."""

from __future__ import annotations

import random
from collections.abc import Callable

from data_gen.multitask.written_tasks.choice import choice
from data_gen.multitask.written_tasks.options import WriteOptions
from data_gen.multitask.written_tasks.qa import qa
from data_gen.multitask.written_tasks.summary import summary
from data_gen.multitask.written_tasks.writing_brief import Brief

BRIEFS: dict[str, Callable[[random.Random, WriteOptions], Brief]] = {"qa": qa, "choice": choice, "summary": summary}
