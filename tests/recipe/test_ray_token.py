"""Ray's token, which Ray itself creates readable by all."""

import pytest

from recipe.longrl import ray_token

pytestmark = pytest.mark.engine


@pytest.fixture
def token(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (*ray_token.TOKEN_VARIABLES, "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / ".ray" / "auth_token"


def test_it_is_its_owners(composed, token):
    for _ in range(2):  # made by us, and found
        ray_token.make_token_private(composed("+ray_kwargs.ray_init.address=local"))
        assert token.stat().st_mode & 0o777 == 0o600
        token.chmod(0o644)


@pytest.mark.parametrize(("name", "value"), [("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "x" * 32)])
def test_none_is_made_where_ray_would_make_none(composed, monkeypatch, token, name: str, value: str):
    monkeypatch.setenv(name, value)
    ray_token.make_token_private(composed("+ray_kwargs.ray_init.address=local"))
    assert not token.exists()


def test_none_is_made_for_a_cluster_that_is_joined(composed, token):
    ray_token.make_token_private(composed("+ray_kwargs.ray_init.address=10.0.0.1:6379"))
    assert not token.exists()
