"""What is sent for a row, how it is counted and cut, and which rows share a document."""

import pytest

from recipe.longrl.evaluation.plan import (
    ChatCounter,
    PlanError,
    different_fields,
    messages_to_send,
    prefix_group,
)
from recipe.longrl.evaluation.records import Row

TEXT = "The capital of Italy is Rome. " * 40


def row(text=TEXT, **values):
    messages = ({"role": "system", "content": "Be short."}, {"role": "user", "content": text})
    return Row(**{"id": "a", "messages": messages, "gold": "Rome", "max_tokens": 8, **values})


def test_tokens_are_those_of_the_chat_template(tokenizer):
    counter, messages = ChatCounter(tokenizer), messages_to_send(row(), "append")
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert counter.count(messages) == len(tokenizer.encode(prompt, add_special_tokens=False))
    assert counter.count(messages) > len(tokenizer.encode(TEXT, add_special_tokens=False))


def test_a_tokenizer_without_a_chat_template_is_refused(tokenizer):
    class Plain:
        chat_template, name_or_path = None, "base-model"

    with pytest.raises(PlanError, match=r"tokenizer = base-model: no chat template. Fix: "):
        ChatCounter(Plain())


@pytest.mark.parametrize(
    ("policy", "last"),
    [
        ("append", {"role": "user", "content": TEXT + " Answer:"}),
        ("continue", {"role": "assistant", "content": "Answer:"}),
        ("off", {"role": "user", "content": TEXT}),
    ],
)
def test_answer_prefixes(policy, last):
    question = row(answer_prefix=" Answer:")
    assert messages_to_send(question, policy)[-1] == last
    assert question.messages[-1]["content"] == TEXT


def test_a_continued_answer_is_counted_without_a_new_turn(tokenizer):
    counter, question = ChatCounter(tokenizer), row(answer_prefix=" Answer:")
    continued, off = (messages_to_send(question, policy) for policy in ("continue", "off"))
    added = counter.count(continued) - counter.count(off)
    assert added == len(tokenizer.encode("Answer:", add_special_tokens=False))


@pytest.mark.parametrize("limit", [50, 77, 120])
@pytest.mark.parametrize("text", [TEXT, "Città perché 北京 🙂 " * 30])
def test_the_middle_is_cut_evenly_to_the_limit(tokenizer, limit, text):
    counter = ChatCounter(tokenizer)
    messages = messages_to_send(row("START " + text + " END"), "off")
    shorter, tokens = counter.cut_middle(messages, limit, counter.count(messages))
    assert limit - 6 <= tokens <= limit
    assert tokens == counter.count(shorter)
    head, tail = shorter[1]["content"][:6], shorter[1]["content"][-4:]
    assert (head, tail, shorter[0]) == ("START ", " END", messages[0])
    assert messages[1]["content"] == "START " + text + " END"


def test_no_room_for_the_middle(tokenizer):
    counter, messages = ChatCounter(tokenizer), messages_to_send(row(), "off")
    assert counter.cut_middle(messages, 8, counter.count(messages)) is None


def test_only_the_ends_of_a_long_text_are_tokenised_again(tokenizer, monkeypatch):
    counter, text = ChatCounter(tokenizer), "".join(f"Line {i} is about {i * i}. " for i in range(4000))
    messages, seen = messages_to_send(row(text), "off"), []
    tokens, read_spans = counter.count(messages), counter._token_spans
    monkeypatch.setattr(counter, "_token_spans", lambda part: seen.append(len(part)) or read_spans(part))
    shorter, left = counter.cut_middle(messages, tokens // 10, tokens)
    assert (left <= tokens // 10, len(shorter[1]["content"]) > len(text) // 11) == (True, True)
    assert sum(seen) < len(text) / 4


@pytest.mark.parametrize(
    "text", ["".join(f" Line {i} is {i * i}." for i in range(400)), "Rome " * 99 + "北京🙂" * 9 + "一二三四" * 99]
)
def test_a_text_whose_ends_have_other_tokens_than_the_rest_is_cut_evenly(tokenizer, text):
    counter, messages = ChatCounter(tokenizer), messages_to_send(row(text), "off")
    shorter, _ = counter.cut_middle(messages, 150, counter.count(messages))
    kept = shorter[1]["content"]
    half = next(at for at in range(len(kept) + 1) if not text.startswith(kept[: at + 1]) or at == len(kept))
    assert text.endswith(kept[half:])
    head, tail = (len(tokenizer.encode(part, add_special_tokens=False)) for part in (kept[:half], kept[half:]))
    assert abs(head - tail) <= 12


def test_questions_about_one_document_are_a_group():
    def group(text, cluster="one"):
        question = row(text, cluster=cluster)
        return prefix_group(question, messages_to_send(question, "off"))

    assert group(TEXT + "Who?") == group(TEXT + "Where, and since when?")
    assert group(TEXT + "Who?") != group(TEXT + "Who?", "another")
    assert group(TEXT + "Who?") != group("Who?" + TEXT)
    assert group("") == group("")


def test_different_fields_have_their_paths():
    first = {"model": {"rope": None, "window": 1}, "seed": 1}
    second = {"model": {"rope": {"factor": 4}, "window": 1}, "seed": 1, "new": 2}
    assert different_fields(first, second) == {"model.rope": (None, {"factor": 4}), "new": (None, 2)}
    assert different_fields(first, first) == {}
