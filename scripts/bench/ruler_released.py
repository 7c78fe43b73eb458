"""Run RULER's released generator in this process, and write its CPU seconds; scripts/bench/ruler.py calls it.

python scripts/bench/ruler_released.py UNPACKED_WHEELS TASK LENGTH SAMPLES TOKENIZER OUTPUT
"""

import importlib.util
import sys
import time
from pathlib import Path

import typer
import yaml


def main(folder: Path, task: str, length: int, samples: int, tokenizer: Path, output: Path) -> None:
    """Write OUTPUT/TASK/validation.jsonl as the released code does, and OUTPUT/TASK/seconds."""
    from transformers import AutoTokenizer

    # The released code seeds first and loads the tokenizer then. Imports that happen there may draw random numbers,
    # depending on the versions installed, so they happen here.
    AutoTokenizer.from_pretrained(tokenizer)
    code = folder / "long_context_eval"
    sys.path[:0] = [str(code / "data"), str(code / "data/synthetic")]
    from long_context_eval.data.synthetic.constants import TASKS

    config = yaml.safe_load((code / "synthetic.yaml").read_text())[task]
    base = TASKS[config["task"]]
    options = {
        **{"save_dir": output, "save_name": task, "tokenizer_path": tokenizer, "tokenizer_type": "hf"},
        **{"max_seq_length": length, "tokens_to_generate": base["tokens_to_generate"], "num_samples": samples},
        **{"template": base["template"] + base["answer_prefix"], "random_seed": 42, **config["args"]},
    }
    file = code / "data/synthetic" / f"{config['task']}.py"
    sys.argv = [str(file), *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
    spec = importlib.util.spec_from_file_location("released", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    begin = time.process_time()
    module.main()
    (output / task / "seconds").write_text(str(time.process_time() - begin))


if __name__ == "__main__":
    typer.run(main)
