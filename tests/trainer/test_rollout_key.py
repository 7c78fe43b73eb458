"""Keys of rollouts, which verl writes as text."""

import pytest
from verl_longrl.trainer.rollout_key import RolloutKey


def test_a_key_is_parsed_from_its_end():
    assert RolloutKey.parse("0f6c-91_10_2") == ("0f6c-91", 10, 2)
    assert RolloutKey.parse("a_b_0_1").uid == "a_b"
    assert RolloutKey.parse("u_1_0").rollout == RolloutKey.parse("u_1_7").rollout != RolloutKey.parse("u_2_0").rollout


@pytest.mark.parametrize("key", ["0f6c-91", "0f6c-91_1", "u_x_0"])
def test_another_form_is_refused(key: str):
    with pytest.raises(ValueError, match=r"unpack|invalid literal"):
        RolloutKey.parse(key)
