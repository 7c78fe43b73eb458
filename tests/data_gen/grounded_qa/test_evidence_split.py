"""No evidence is in both files, and the share that is held out is as near as whole groups allow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_gen.config import ConfigError
from data_gen.grounded_qa.evidence_split import connected_groups, hold_out_evidence

QUESTIONS = st.dictionaries(st.text("qrs", min_size=1, max_size=4), st.lists(st.sampled_from("abcdefgh"), max_size=3))


@given(QUESTIONS, st.floats(0, 0.9), st.integers(0, 3))
def test_no_evidence_is_shared(evidence, fraction, seed):
    rows = {name: 1 + len(name) for name in evidence}
    groups = connected_groups(evidence)
    assert sorted(name for group in groups for name in group) == sorted(evidence)
    if fraction and len(evidence) > 1 and len(groups) == 1:
        with pytest.raises(ConfigError, match=r"none can be held out. Fix: set export.val_fraction=0"):
            hold_out_evidence(evidence, rows, fraction, seed)
        return
    held_out = hold_out_evidence(evidence, rows, fraction, seed)
    keys = [{key for name in names for key in evidence[name]} for names in (held_out, evidence.keys() - held_out)]
    assert not keys[0] & keys[1]
    assert held_out == hold_out_evidence(dict(reversed(evidence.items())), rows, fraction, seed)
    held_rows, room = sum(rows[name] for name in held_out), fraction * sum(rows.values())
    assert held_rows <= room or any(held_out == set(group) for group in groups)
    if fraction and len(evidence) > 1:
        assert held_out
        assert held_out != evidence.keys()


def test_large_groups_leave_their_room_to_small_ones():
    evidence = {"a": ["1"], "b": ["1", "2"], "c": ["2"], **{f"q{n}": [f"p{n}"] for n in range(17)}}
    for seed in range(5):
        held_out = hold_out_evidence(evidence, dict.fromkeys(evidence, 1), 0.1, seed)
        assert len(held_out) == 2
        assert not held_out & {"a", "b", "c"}
