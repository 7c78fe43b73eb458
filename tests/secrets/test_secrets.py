"""Variables that are secrets, how texts are redacted, and who can read the file that holds them."""

import json
import os
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest
from verl_longrl import secrets

VALUE = 'a "key"/+= of mine'


@pytest.fixture(autouse=True)
def nothing_declared(monkeypatch):
    """Independent of tests that ran before in this process."""
    monkeypatch.setattr(secrets, "_declared", set())


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        *((n, True) for n in ("HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD")),
        *((n, True) for n in ("MLFLOW_TRACKING_PASSWORD", "AWS_ACCESS_KEY_ID", "GH_PAT", "MYSQL_PWD", "SSHPASS")),
        *((n, True) for n in ("AZURE_STORAGE_CONNECTION_STRING", "LONGRL_RUN_SECRET", "HFTOKEN", "my_api_key")),
        *((n, False) for n in ("TOKENIZERS_PARALLELISM", "VLLM_MAX_TOKENS", "LONGRL_KEYCHAIN", "PWD", "OLDPWD")),
        *((n, False) for n in ("WANDB_IDENTITY_TOKEN_FILE", "LONGRL_SECRETS_FILE", "HF_TOKEN_PATH", "SSH_AUTH_SOCK")),
        *((n, False) for n in ("GOOGLE_APPLICATION_CREDENTIALS", "AUTHOR", "BYPASS", "RAY_AUTH_MODE")),
    ],
)
def test_names(name: str, hidden: bool):
    assert secrets.is_secret(name) == hidden


def test_an_address_with_a_password_is_a_secret_under_any_name():
    environment = {"HTTPS_PROXY": "http://me:pass@proxy:3128", "OPENAI_BASE_URL": "http://host/v1", "STORE": "s3://b/x"}
    assert secrets.select(environment).keys() == {"HTTPS_PROXY"}
    assert secrets.without({**environment, "LONGRL_SECRETS_FILE": "f"}).keys() == {"OPENAI_BASE_URL", "STORE"}


@pytest.mark.parametrize(
    "written",
    [
        VALUE,
        f"Incorrect API key provided: {VALUE}.",
        json.dumps({"key": VALUE}),
        urllib.parse.quote(VALUE),
        urllib.parse.quote(VALUE, safe=""),
        f"{{'env': {VALUE!r}}}",
    ],
)
def test_a_known_value_is_found_however_it_is_written(monkeypatch, written: str):
    monkeypatch.setenv("MY_TOKEN", VALUE)
    assert "[secret MY_TOKEN]" in secrets.redact(written)
    assert "of mine" not in urllib.parse.unquote(secrets.redact(written))


def test_a_value_of_several_lines_is_found_line_by_line(monkeypatch):
    monkeypatch.setenv("MY_PRIVATE_KEY", "-----BEGIN-----\nbase64base64\n-----END-----\n")
    assert secrets.redact("ssh: base64base64") == "ssh: [secret MY_PRIVATE_KEY]"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("https://me:pa@ss@host:1/v1", "https://[user and password]@host:1/v1"),
        ("https://sk-1@github.com/x.git", "https://[user and password]@github.com/x.git"),
        ("postgresql://me:pass@db/x", "postgresql://[user and password]@db/x"),
        ("GET https://h/v1?api-key=123&n=1", "GET https://h/v1?api-key=[secret]&n=1"),
        ("https://h/b?X-Amz-Signature=1f&sig=2", "https://h/b?X-Amz-Signature=[secret]&sig=[secret]"),
        ("{'Authorization': 'Bearer abcdefgh'}", "{'Authorization': 'Bearer [secret]'}"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic [secret]"),
        ("curl -H 'Bearer sk-12345678'", "curl -H 'Bearer [secret]'"),
        # nothing to hide
        *((text, text) for text in ("hdfs://me@host/x", "git+https://github.com/a/b@v1", "me@host", "a?b=c")),
        *((text, text) for text in ("https://h/v1?max_tokens=3", "Bearer authentication failed", "hf://d/u/r@main/f")),
    ],
)
def test_credentials_that_are_in_no_variable(text: str, redacted: str):
    assert secrets.redact(text) == redacted


def test_short_values_are_not_keys(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "none")
    assert secrets.redact("none of it") == "none of it"


def test_a_declared_variable_is_a_secret_whatever_its_name(monkeypatch):
    monkeypatch.setenv("JUDGE_WORD", "abracadabra")
    assert secrets.redact("abracadabra") == "abracadabra"
    secrets.declare_secrets("JUDGE_WORD")
    assert secrets.redact("abracadabra") == "[secret JUDGE_WORD]"


def test_only_the_owner_can_read_the_file_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        with secrets.file_for_run(tmp_path, {"HF_TOKEN": VALUE}) as ours:
            file = Path(ours[secrets.FILE_VARIABLE])
            assert file.stat().st_mode & 0o777 == 0o600
            assert secrets.read_file(file) == {"HF_TOKEN": VALUE, **{name: ours[name] for name in secrets.RUN_KEYS}}
    finally:
        os.umask(before)
    with secrets.file_for_run(tmp_path, {}) as again:
        assert all(again[name] != ours[name] for name in secrets.RUN_KEYS)


def test_the_file_is_removed_after_errors_too(tmp_path):
    with pytest.raises(ZeroDivisionError), secrets.file_for_run(tmp_path, {"HF_TOKEN": VALUE}):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_link_at_the_files_path_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda _=None: "00")
    (tmp_path / "aside").write_text("mine")
    (tmp_path / ".secrets-00.json").symlink_to(tmp_path / "aside")
    with (
        pytest.raises(secrets.SecretsError, match="cannot be written"),
        secrets.file_for_run(tmp_path, {"HF_TOKEN": VALUE}),
    ):
        pass
    assert (tmp_path / "aside").read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (f'{{"HF_TOKEN": {json.dumps(VALUE)}}}', 0o644, "others can read it (mode 644). Fix: chmod 600"),
        (f"HF_TOKEN={VALUE}", 0o600, "is not JSON"),
        (f'["{VALUE[:1]}"]', 0o600, "must hold names and texts only"),
        ('{"HF_TOKEN": 1}', 0o600, "must hold names and texts only"),
        (None, 0, "cannot be read (No such file or directory). Fix: put it where every machine of the run can read it"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_not_quoted(tmp_path, text: str | None, mode: int, said: str):
    file = tmp_path / "keys.json"
    if text is not None:
        file.write_text(text)
        file.chmod(mode)
    with pytest.raises(secrets.SecretsError) as error:
        secrets.read_file(file)
    assert said in str(error.value)
    assert str(file) in str(error.value)
    assert "of mine" not in str(error.value)


@pytest.mark.engine
def test_the_plugin_loads_secrets_in_every_process(tmp_path):
    """Also without Ray's hook: of children of workers, and where a user has a hook of their own."""
    with secrets.file_for_run(tmp_path, {"HF_TOKEN": VALUE}) as ours:
        environment = {**secrets.without(os.environ), secrets.FILE_VARIABLE: ours[secrets.FILE_VARIABLE]}
        told = "import os, verl_longrl.plugin; print(os.environ['HF_TOKEN'])"
        done = subprocess.run([sys.executable, "-c", told], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == VALUE, done.stderr
