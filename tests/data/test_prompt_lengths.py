"""Lengths equal full tokenisation, and are counted once per tokenizer, template and file content.

Marked engine because transformers imports torch.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from verl_longrl.data.prompt import grounded_prompt
from verl_longrl.data.prompt_lengths import PromptCounter, prompt_lengths, stored_lengths, tokenizer_fingerprint
from verl_longrl.data.validate import validate_file

pytestmark = pytest.mark.engine


@pytest.fixture
def samples(make_sample):
    return [make_sample(i, prompt=grounded_prompt(["key " * (i + 1)] * 4, "q")) for i in range(70)]


@pytest.fixture
def counted(monkeypatch):
    """Prompts counted so far."""
    seen: list[int] = []
    count = PromptCounter.count

    def spy(self, prompts):
        seen.extend([1] * len(prompts))
        return count(self, prompts)

    monkeypatch.setattr(PromptCounter, "count", spy)
    return seen


def full(tokenizer, samples, **kwargs):
    return [
        len(
            tokenizer.apply_chat_template(
                s.prompt, add_generation_prompt=True, tokenize=True, return_dict=False, **kwargs
            )
        )
        for s in samples
    ]


def test_equal_to_full_tokenisation_and_cached(write, samples, tokenizer, tmp_path, counted):
    path = write(samples)
    first = prompt_lengths(path, tokenizer, cache_dir=tmp_path)
    assert first.dtype == np.int32
    assert first.tolist() == full(tokenizer, samples)
    assert len(counted) == 70
    assert prompt_lengths(path, tokenizer, cache_dir=tmp_path).tolist() == first.tolist()
    assert len(counted) == 70


def test_template_options_are_counted(write, samples, tokenizer, tmp_path):
    options = {"thinking": True}
    got = prompt_lengths(write(samples), tokenizer, chat_template_kwargs=options, cache_dir=tmp_path)
    assert got.tolist() == full(tokenizer, samples, thinking=True)


def test_stored_lengths_need_no_counting(write, samples, tokenizer, tmp_path, counted):
    counter = PromptCounter(tokenizer)
    tokens = counter.count([s.prompt for s in samples])
    known = [
        replace(s, prompt_tokens=n, tokenizer_fingerprint=counter.fingerprint)
        for s, n in zip(samples, tokens, strict=True)
    ]
    counted.clear()
    path = write(known)
    assert prompt_lengths(path, tokenizer, cache_dir=tmp_path).tolist() == full(tokenizer, samples)
    assert not counted
    assert stored_lengths(path, "another tokenizer") is None
    tokenizer.chat_template = "x " + tokenizer.chat_template
    assert prompt_lengths(path, tokenizer, cache_dir=tmp_path).tolist() == full(tokenizer, samples)
    assert len(counted) == 70


def change_template(tokenizer):
    tokenizer.chat_template += " !"


def change_vocabulary(tokenizer):
    tokenizer.add_tokens(["chunk_0"])


def change_special_token(tokenizer):
    tokenizer.eos_token = "<s>"


@pytest.mark.parametrize("change", [change_template, change_vocabulary, change_special_token])
def test_a_changed_tokenizer_is_counted_anew(write, samples, tokenizer, tmp_path, counted, change):
    path = write(samples)
    prompt_lengths(path, tokenizer, cache_dir=tmp_path)
    change(tokenizer)
    assert prompt_lengths(path, tokenizer, cache_dir=tmp_path).tolist() == full(tokenizer, samples)
    assert len(counted) == 140


def test_a_changed_file_is_counted_anew_even_with_its_old_time(write, samples, tokenizer, tmp_path, counted):
    path = write(samples)
    prompt_lengths(path, tokenizer, cache_dir=tmp_path)
    stat = os.stat(path)
    write(samples[::-1])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert prompt_lengths(path, tokenizer, cache_dir=tmp_path).tolist() == full(tokenizer, samples[::-1])
    assert len(counted) == 140


def test_a_damaged_cache_is_rebuilt(write, samples, tokenizer, tmp_path, counted, capsys):
    path = write(samples)
    first = prompt_lengths(path, tokenizer, cache_dir=tmp_path)
    (entry,) = (tmp_path / "prompt_lengths").iterdir()
    for damage in (lambda b: b[:-3], lambda b: b"", lambda b: b[:40] + b"\xff" + b[41:]):
        entry.write_bytes(damage(entry.read_bytes()))
        assert prompt_lengths(path, tokenizer, cache_dir=tmp_path).tolist() == first.tolist()
    assert len(counted) == 280
    assert "the cached prompt lengths are damaged" in capsys.readouterr().err


def test_a_padding_token_set_by_verl_changes_nothing(write, samples, tokenizer, tmp_path, counted):
    """Tokenizers without one (Llama's) get one from verl; what the preflight counted before must still count."""
    from verl.utils.tokenizer.tokenizer import set_pad_token_id

    tokenizer.pad_token = None
    counter = PromptCounter(tokenizer)
    tokens = counter.count([s.prompt for s in samples])
    named = {"tokenizer_fingerprint": counter.fingerprint}
    path = write([replace(s, prompt_tokens=n, **named) for s, n in zip(samples, tokens, strict=True)])
    counted.clear()
    with pytest.warns(UserWarning, match="pad_token"):
        set_pad_token_id(tokenizer)
    assert tokenizer.pad_token == tokenizer.eos_token
    assert prompt_lengths(path, tokenizer, cache_dir=tmp_path).tolist() == full(tokenizer, samples)
    assert not counted
    tokenizer.chat_template += "{{ pad_token }}"
    with_padding = tokenizer_fingerprint(tokenizer)
    tokenizer.pad_token = "<unk>"
    assert tokenizer_fingerprint(tokenizer) != with_padding


def test_padding_and_truncation_settings_change_nothing(samples, tokenizer):
    fingerprint = tokenizer_fingerprint(tokenizer)
    tokenizer.backend_tokenizer.enable_truncation(8)
    tokenizer.backend_tokenizer.enable_padding(length=16)
    assert tokenizer_fingerprint(tokenizer) == fingerprint
    assert PromptCounter(tokenizer).count([s.prompt for s in samples]) == full(tokenizer, samples)


def test_a_tokenizer_with_its_own_encoding_counts_itself(samples, tokenizer):
    """The batch path is only taken when it agrees with the tokenizer."""

    class Odd(type(tokenizer)):
        def apply_chat_template(self, *args, tokenize=True, **kwargs):
            out = super().apply_chat_template(*args, tokenize=tokenize, **kwargs)
            return [*out, 0] if tokenize else out

    tokenizer.__class__ = Odd
    assert PromptCounter(tokenizer).count([s.prompt for s in samples[:5]]) == full(tokenizer, samples[:5])


def test_template_refusing_a_row_is_named(write, make_sample, tokenizer, tmp_path):
    tokenizer.chat_template = "{{ raise_exception('no users here') }}"
    with pytest.raises(ValueError, match=r"data\.parquet: rows 0 to 0: the chat template refuses.*no users here"):
        prompt_lengths(write([make_sample()]), tokenizer, cache_dir=tmp_path)


def test_files_of_others_are_counted(tmp_path, make_sample, tokenizer):
    rows = [{"messages": make_sample().prompt}] * 3
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    got = prompt_lengths(tmp_path / "x.parquet", tokenizer, cache_dir=tmp_path, prompt_key="messages")
    assert got.tolist() == full(tokenizer, [make_sample()] * 3)


def test_validator_counts_with_a_tokenizer(write, samples, tokenizer, tmp_path):
    path = write([replace(s, ref_chunks=[0], ref_chunks_text=None) for s in samples])
    limit = sorted(full(tokenizer, samples))[-3]
    report = validate_file(path, tokenizer=tokenizer, max_prompt_length=limit, cache_dir=tmp_path)
    assert report.problem_count == 2
    assert "row 68: prompt_tokens = " in report.lines()[0]
