"""The KeyChain world as training samples: open questions (loongrl_qa), and hidden ones (loongrl_keychain)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from verl_longrl.data.schema import Message, Sample

from data_gen.keychain.prompts import messages
from recipe.longrl.demo.keychain.world import KeychainDocument, KeychainWorld, documents


def prompt(document: KeychainDocument, start: str, hidden: bool) -> list[Message]:
    """The prompt that asks for the color that a thing, or (hidden) the chain that begins at `start`, leads to."""
    task = f'Begin with the key "{start}"' if hidden else f'Question "{start}"'
    return messages(f"{document.text} \n\n {task}")


def response(path: list[str]) -> str:
    """The text after `<think>`: every step of a path, and its end as the answer."""
    return f"{' '.join(path)} is it . </think> \\boxed{{ {path[-1]} }}"


def fixed_wording() -> str:
    """The words that all prompts and responses have, for the tokenizer's vocabulary."""
    empty = KeychainDocument("", {}, (), ())
    prompts = " ".join(prompt(empty, "-", hidden)[0]["content"] for hidden in (True, False))
    return f'{prompts} {response(["-"])} is by {{"-": "-"}}.'


def samples(config: KeychainWorld, count: int, split: str, seed: str, task: str | None = None) -> Iterator[Sample]:
    """`count` samples, one per text: hidden questions where the world has chains, open ones otherwise.

    task: the name under which metrics are reported; None for the data source's name.
    """
    hidden = bool(config.chains)
    source = "loongrl_keychain" if hidden else "loongrl_qa"
    for index, document in enumerate(islice(documents(config, f"{split}-{seed}"), count)):
        start = document.chains[0][0] if hidden else document.things[index % len(document.things)]
        path = document.path(start)
        yield Sample(
            data_source=source,
            prompt=prompt(document, start, hidden),
            ground_truth=path[-1],
            index=index,
            split=split,
            question=f"{next(step for step in path if step in document.things)} ?",
            task=task or source,
            ability="longcontext_qa",
            payload={"document": f"{split}-{seed}-{index}", "path": path},
        )
