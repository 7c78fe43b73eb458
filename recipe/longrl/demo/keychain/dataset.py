"""The KeyChain world as training samples: open questions (loongrl_qa), and hidden ones (loongrl_keychain)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from transformers import PreTrainedTokenizerFast
from verl_longrl.data.prompt_lengths import PromptCounter
from verl_longrl.data.schema import Message, Sample

from data_gen.keychain.prompts import messages
from recipe.longrl.demo.keychain.world import Document, WorldConfig, documents

FRAME_TOKENS = 16
"""More than a prompt has beside its text."""


def prompt(document: Document, start: str, hidden: bool) -> list[Message]:
    """The prompt that asks for the color which a thing (or, hidden, a chain that begins at `start`) leads to."""
    task = f'Begin with the key "{start}"' if hidden else f'Question "{start}"'
    return messages(f"{document.text} \n\n {task}")


def response(path: list[str]) -> str:
    """What is written after `<think>`: every step of a path, and its end as the answer."""
    return f"{' '.join(path)} is it . </think> \\boxed{{ {path[-1]} }}"


def frame() -> str:
    """The fixed wording of prompts and responses, for the tokenizer's vocabulary."""
    nothing = Document("", {}, (), ())
    asked = " ".join(prompt(nothing, "-", hidden)[0]["content"] for hidden in (True, False))
    return f'{asked} {response(["-"])} is by {{"-": "-"}}.'


def samples(
    words: PreTrainedTokenizerFast, config: WorldConfig, count: int, split: str, seed: str, task: str | None = None
) -> Iterator[Sample]:
    """`count` samples, one per text: hidden questions where the world has chains, else open ones.

    task: under which metrics are reported; the data source's name when None.
    """
    counter = PromptCounter(words)
    hidden = bool(config.chains)
    source = "loongrl_keychain" if hidden else "loongrl_qa"
    for index, document in enumerate(islice(documents(config, f"{split}-{seed}"), count)):
        start = document.chains[0][0] if hidden else document.things[index % len(document.things)]
        path = document.path(start)
        shown = prompt(document, start, hidden)
        yield Sample(
            data_source=source,
            prompt=shown,
            ground_truth=path[-1],
            index=index,
            split=split,
            question=f"{next(step for step in path if step in document.things)} ?",
            task=task or source,
            ability="longcontext_qa",
            payload={"document": f"{split}-{seed}-{index}", "path": path},
            prompt_tokens=counter.count([shown])[0],
            tokenizer_fingerprint=counter.fingerprint,
        )
