"""The proof accepts a sound prompt and nothing else."""

import pytest

from data_gen.keychain.chain_solver import UnsoundChain, looks_like_chain, solve_chain
from data_gen.keychain.prompts import keychain_question, link

A, B, C, D, E = ("00000000", "11111111", "22222222", "33333333", "44444444")
SOUND = [(A, B), (B, C), (C, 'Who said "no\\yes"?'), (D, E), (E, "Who else?")]


def prompt(pairs, head=A):
    text = "One thing.".join(link(key, value) for key, value in pairs)
    return f"Begin. {text} The end.\n\n{keychain_question(head)}"


def test_a_sound_prompt_is_solved():
    found = solve_chain(prompt(SOUND))
    assert (found.question, found.keys, found.pairs) == ('Who said "no\\yes"?', (A, B, C), 5)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (SOUND[1:], "no pair has the key 00000000"),
        ([*SOUND[:1], *SOUND[2:]], "the chain ends in the key 11111111, which no pair has"),
        ([(A, B), (B, A)], "the chain loops at 00000000"),
        ([*SOUND, (B, D)], "11111111 has 2 values"),
        ([*SOUND, (D, C)], "is reached from"),
        ([*SOUND, (D, SOUND[2][1])], "is reached from"),
        ([*SOUND, (D, A)], "the chain's first key is the value of"),
    ],
)
def test_an_unsound_prompt_is_refused(pairs, message):
    with pytest.raises(UnsoundChain, match=message):
        solve_chain(prompt(pairs))


def test_a_prompt_without_a_key_to_begin_with_is_refused():
    with pytest.raises(UnsoundChain, match="names no key to begin with"):
        solve_chain("Nothing is hidden here.")


def test_text_that_only_looks_like_a_chain_is_no_part_of_it():
    text = 'Begin with the key "foo" and go. {"abcdef12": "x\ny"} or {"abcdef12": "\\d+"}. ' + prompt(SOUND)
    assert solve_chain(text).keys == (A, B, C)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('See {"abcdef12": "x"} here.', True),
        ('Begin with the key "foo".', True),
        ("deadbeef", True),
        ("1fe45348-d99a-4e88-9cf8-cd34c18785ce", True),
        ("Who has the key?", False),
        ("The number is 12345678.", False),
        ('{"name": "x"}', False),
    ],
)
def test_text_that_looks_like_a_chain(text, found):
    assert looks_like_chain(text) is found
