"""Teach a real model the form of grounded answers by supervised fine-tuning on written demonstrations.

    python scripts/cold_start.py pypi:smollm2-135m outputs/cold-start

Documents of six chunks, each with one planted fact ("The access code of the mill is 7697."), and a question about one
of them. 40 demonstrations that quote the evidence, cite its chunk and answer (`data_gen.demonstrations from-gold`), 10
steps of 8 (`recipe.longrl.sft`). Then the model before and the model after answer 12 other questions greedily, scored
as in training. Writes docs/results/cold_start.json. On two CPU cores, use OMP_NUM_THREADS=2.
"""

import json
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from verl_longrl.data.demonstrations import Demonstration
from verl_longrl.data.jsonl import read_jsonl
from verl_longrl.data.prompt import grounded_prompt
from verl_longrl.data.schema import Sample, read_samples, write_samples
from verl_longrl.rewards import RewardOptions

from recipe.longrl.pypi_models import local_folder

RESULT = Path("docs/results/cold_start.json")
PLACES = ["mill", "tower", "harbour", "library", "bakery", "chapel", "museum", "station", "orchard", "quarry"]
THINGS = ["access code", "opening year", "house number", "visitor record", "storage limit", "inventory number"]
WORDS = ["people", "boats", "stones", "letters", "horses", "lanterns", "barrels", "carts", "bells", "windows"]
VERBS = ["passed", "counted", "moved", "watched", "painted", "repaired", "followed", "admired"]
ROWS = {"train": 40, "val": 8, "test": 12}


def sample(draw: random.Random, index: int, split: str) -> Sample:
    """A document of planted facts in chunks of three sentences, and a question about one of them."""
    places, thing = draw.sample(PLACES, 6), draw.choice(THINGS)
    values = draw.sample(range(1000, 10000), 6)
    chunks = []
    for place, value in zip(places, values, strict=True):
        talk = [
            f"In the morning the {a} {draw.choice(VERBS)} the {b} near the {place}, and later the {c} were gone."
            for a, b, c in (draw.sample(WORDS, 3) for _ in range(2))
        ]
        talk.insert(draw.randrange(3), f"The {thing} of the {place} is {value}.")
        chunks.append(" ".join(talk))
    asked = draw.randrange(6)
    question = f"What is the {thing} of the {places[asked]}?"
    return Sample(
        data_source="longrlvr",
        prompt=grounded_prompt(chunks, question),
        ground_truth=str(values[asked]),
        index=index,
        split=split,
        question=question,
        task="longrlvr",
        ability="grounded_qa",
        ref_chunks=[asked],
        ref_chunks_text=[chunks[asked]],
        num_chunks=6,
    )


def answer_greedily(model_folder: Path, rows: list[Sample]) -> list[Demonstration]:
    """The model's answer to each row, of at most 96 tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    answers = []
    for row in rows:
        ids = tokenizer.apply_chat_template(
            row.prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        with torch.no_grad():
            generated = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=96, do_sample=False)
        text = tokenizer.decode(generated[0, ids.shape[1] :], skip_special_tokens=True)
        answers.append(Demonstration(row, text))
    return answers


def mean_parts(answers: list[Demonstration]) -> dict[str, float]:
    """Means of the parts of the scores, over all answers."""
    scores = [answer.score(RewardOptions()) for answer in answers]
    parts = ("answer", "context", "recall", "precision", "format")
    return {part: round(statistics.fmean(score.parts.get(part, 0.0) for score in scores), 3) for part in parts}


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", *arguments], check=True)


def main(
    model: Annotated[str, typer.Argument(help="The model's folder, or pypi:smollm2-135m.")],
    folder: Annotated[Path, typer.Argument(help="The folder for data, demonstrations and the run.")],
    seed: Annotated[int, typer.Option(help="Seed of the documents.")] = 0,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-4,
    steps: Annotated[int, typer.Option(help="Steps of 8 demonstrations.")] = 10,
    result: Annotated[Path, typer.Option(help="File to write.")] = RESULT,
) -> None:
    """Make the data, train, and measure before and after."""
    source = Path(local_folder(model)).resolve()
    draw = random.Random(seed)
    for split, count in ROWS.items():
        write_samples(folder / f"{split}.parquet", (sample(draw, index, split) for index in range(count)))
    for split in ("train", "val"):
        demos = str(folder / f"demos-{split}.parquet")
        run("data_gen.demonstrations", "from-gold", str(folder / f"{split}.parquet"), "--out", demos)
    run(
        "recipe.longrl.sft",
        *("hardware=cpu", f"actor_rollout_ref.model.path={source}", f"longrl.output_dir={folder / 'run'}"),
        *(f"sft.train_files={folder / 'demos-train.parquet'}", f"sft.val_files={folder / 'demos-val.parquet'}"),
        *(f"sft.steps={steps}", "sft.batch_size=8", f"sft.lr={lr}", "sft.save_freq=1000", "trainer.logger=[]"),
    )
    metrics = read_jsonl(folder / "run" / "metrics.jsonl")
    train = [row for row in metrics if row["split"] == "train"]
    test = list(read_samples(folder / "test.parquet"))
    answers = {"before": answer_greedily(source, test), "after": answer_greedily(folder / "run" / "export", test)}
    measured: dict[str, Any] = {
        "command": f"python scripts/cold_start.py MODEL FOLDER --lr {lr} --steps {steps}",
        "demonstrations": ROWS["train"],
        "steps": steps,
        "lr": lr,
        "tokens_per_step": round(statistics.fmean(row["train/tokens"] for row in train)),
        "training_loss": [round(row["train/loss"], 4) for row in train],
        "held_out_loss": {row["step"]: round(row["val/loss"], 4) for row in metrics if row["split"] == "val"},
        "seconds_per_step": round(statistics.median(row["train/seconds"] for row in train), 1),
        "tokens_per_second": round(statistics.median(row["train/tokens"] / row["train/seconds"] for row in train)),
        "peak_memory_gib": round(max(row["train/memory_gib"] for row in train), 2),
        "test_rows": len(test),
        **{when: mean_parts(given) for when, given in answers.items()},
        "example_after": answers["after"][0].response,
    }
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps(measured, indent=2) + "\n")
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    typer.run(main)
