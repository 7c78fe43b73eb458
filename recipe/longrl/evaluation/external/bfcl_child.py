"""Runs in .venv-bfcl, where bfcl-eval is: `python bfcl_child.py TASK.json` asks and scores BFCL's memory categories.

bfcl-eval knows its models by a table of names. This adds the measured model to the table, and sends the sampling that
bfcl-eval has no settings for. Results and scores are written under $BFCL_PROJECT_ROOT; what is there is not asked
again.
"""

import json
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

from bfcl_eval import _llm_response_generation as generation
from bfcl_eval.constants.eval_config import RESULT_PATH, SCORE_PATH
from bfcl_eval.constants.model_config import MODEL_CONFIG_MAPPING, ModelConfig
from bfcl_eval.eval_checker import eval_runner
from bfcl_eval.model_handler.api_inference.openai_completion import OpenAICompletionsHandler

TASK = json.loads(Path(sys.argv[1]).read_text())
MODEL = "model"
"""The model's name in the table and in the folders of results."""


class Handler(OpenAICompletionsHandler):  # type: ignore[misc]
    """Sends the task's sampling; adds to each result how many replies reached their longest length."""

    cut = threading.local()

    def inference(self, *arguments, **named):
        self.cut.replies = 0
        result, metadata = super().inference(*arguments, **named)
        return result, {**metadata, "cut": self.cut.replies}

    def generate_with_backoff(self, **request):
        request.pop("store")  # OpenAI's own servers alone know this field.
        reply, seconds = super().generate_with_backoff(**{**request, **TASK["request"]})
        reason = reply.choices[0].finish_reason
        if reason not in ("stop", "tool_calls", "length"):
            raise RuntimeError(f"finish_reason {reason}")
        self.cut.replies += reason == "length"
        return reply, seconds


def main() -> None:
    MODEL_CONFIG_MAPPING[MODEL] = ModelConfig(
        model_name=TASK["model"],
        display_name=MODEL,
        url="",
        org="",
        license="",
        model_handler=Handler,
        is_fc_model=TASK["function_calling"],
        underscore_to_dot=TASK["function_calling"],
    )
    generation.main(
        SimpleNamespace(
            model=[MODEL],
            test_category=TASK["categories"],
            temperature=TASK["request"]["temperature"],
            include_input_log=False,
            exclude_state_log=True,
            num_threads=TASK["concurrency"],
            result_dir=None,
            run_ids=False,
            allow_overwrite=False,
        )
    )
    eval_runner.main([MODEL], TASK["categories"], RESULT_PATH, SCORE_PATH, partial_eval=True)


if __name__ == "__main__":
    main()
