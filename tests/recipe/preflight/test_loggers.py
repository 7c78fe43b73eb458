"""Loggers that verl does not know, or cannot import, are refused before the start."""

import pytest

from recipe.longrl.preflight import loggers

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE", "VOLC_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[console,foo]", "trainer.logger = 'foo': unknown. Fix: verl has wandb, mlflow"),
        ("[console,tensorbord]", "'tensorbord': unknown. Fix: did you mean tensorboard? verl has"),
        ("tensorbord", "'tensorbord': unknown. Fix: did you mean tensorboard? verl has"),
        ("null", "trainer.logger = None: unknown"),
    ],
)
def test_an_unknown_logger_is_named(check, given: str, message: str):
    status, detail = check(f"trainer.logger={given}", dry_run=True)["logger"]
    assert status == "FAIL"
    assert message in detail


def test_servers_that_want_a_key_are_not_scraped(configure):
    refused, line = loggers.check_loggers(configure("actor_rollout_ref.rollout.prometheus.enable=true"), dry_run=True)
    assert refused.status == "FAIL"
    assert "actor_rollout_ref.rollout.prometheus.enable = true" in refused.detail
    assert line.status == "ok"


def test_one_that_is_not_installed(configure, monkeypatch):
    config = configure("trainer.logger=[console,trackio,vemlp_wandb]")
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    (line,) = loggers.check_loggers(config, dry_run=False)
    assert line.status == "FAIL"
    assert "trainer.logger = trackio: package trackio is not installed" in line.detail
    assert "package volcengine_ml_platform is not installed" in line.detail
    (line,) = loggers.check_loggers(config, dry_run=True)
    assert line.status == "warn"


def test_what_a_logger_needs_of_the_environment(configure, monkeypatch):
    config = configure("trainer.logger=vemlp_wandb")
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: name)
    (line,) = loggers.check_loggers(config, dry_run=False)
    assert line.status == "FAIL"
    assert "needs VOLC_ACCESS_KEY_ID" in line.detail


def test_wandb_cannot_ask_for_its_key(configure, monkeypatch, tmp_path):
    config = configure("trainer.logger=[console,wandb]")
    (line,) = loggers.check_loggers(config, dry_run=False)
    assert line.status == "warn"
    assert "Fix: run `wandb login`, or set WANDB_API_KEY, or WANDB_MODE=offline" in line.detail
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password key\n")
    (line,) = loggers.check_loggers(config, dry_run=False)
    assert (line.status, line.detail) == ("ok", "console, wandb")
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert [line.status for line in loggers.check_loggers(config, dry_run=False)] == ["ok"]


def test_upstream_still_needs_no_other_packages():
    """Contract: every logger imports the package of its name, but for those in `PACKAGES`."""
    import inspect

    from verl.utils import tracking

    source = inspect.getsource(tracking)
    for name in tracking.Tracking.supported_backend:
        package = loggers.PACKAGES.get(name, name)
        assert package is None or package == "tensorboard" or f"import {package}" in source, name
    for name in loggers.VARIABLES["vemlp_wandb"]:
        assert f'os.environ["{name}"]' in source
