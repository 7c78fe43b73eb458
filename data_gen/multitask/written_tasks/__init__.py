"""The tasks that a model writes, by name: each a function from a random source to a brief for the writer."""

from __future__ import annotations

import random
from collections.abc import Callable

from data_gen.multitask.written_tasks.choice import choice
from data_gen.multitask.written_tasks.options import WriteOptions
from data_gen.multitask.written_tasks.qa import qa
from data_gen.multitask.written_tasks.summary import summary
from data_gen.multitask.written_tasks.writing_brief import WritingBrief

WritingTask = Callable[[random.Random, WriteOptions], WritingBrief]
BRIEFS: dict[str, WritingTask] = {"qa": qa, "choice": choice, "summary": summary}
