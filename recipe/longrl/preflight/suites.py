"""Plan the suites of longrl.evaluate as the trainer will, so that a wrong one is found before anything starts."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig
from verl_longrl.config import LongRLConfig

from recipe.longrl.preflight.check import Check
from recipe.longrl.preflight.data import load_tokenizer


def check_suites(config: DictConfig, longrl: LongRLConfig, dry_run: bool) -> Iterator[Check]:
    """A line for each suite; none without suites, or without a tokenizer, which `check_data` reports."""
    from recipe.longrl.evaluation.errors import EvaluationError
    from recipe.longrl.evaluation.suites import SuitePlanner

    if not longrl.evaluate.suites:
        return
    tokenizer, _ = load_tokenizer(config.actor_rollout_ref.model, dry_run)
    if tokenizer is None:
        return
    planner = SuitePlanner(config, longrl.evaluate, tokenizer)
    try:
        profile, suites = planner.read()
    except EvaluationError as error:
        yield Check("evaluate", "FAIL", str(error))
        return
    every = longrl.evaluate.every or config.trainer.save_freq
    when = f"every {every} steps" if every > 0 else "at the start and the end"
    for name, suite in suites.items():
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="longrl-suite-") as folder:
            try:
                plan = planner.plan(Path(folder) / name, profile, name, suite)
            except EvaluationError as error:
                yield Check(f"evaluate {name}", "FAIL", str(error))
                continue
        longest = max(row.prompt_tokens + row.max_tokens for row in plan.rows)
        detail = (
            f"{len(plan.rows)} rows of slice {suite.slice} {when}; prompts of {plan.tokens[0]:,} tokens, the longest "
            f"with its answer {longest:,}; planned in {time.monotonic() - started:.1f} s"
        )
        yield Check(f"evaluate {name}", "ok", detail)
