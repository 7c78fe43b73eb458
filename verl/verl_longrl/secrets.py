"""Keep a run's secrets out of everything that is written or shown, and get them to its workers.

A secret is a variable whose name says so (`is_secret`), whose value is an address with a password in it, or that an
option names as the holder of a key (`declare_secrets`). Secrets never enter a runtime environment, a command line, a
configuration or a log, because others may read those: Ray writes runtime environments to its logs and to the command
lines of its workers. Their way to the workers is:

    start of the run:  file_for_run() writes {"NAME": "value", ...} to a file that only its owner can read
    runtime env:       LONGRL_SECRETS_FILE = path of that file
    each worker:       load() reads the file into its environment, before anything else of the run

Users may write such a file themselves where a run starts on another machine than theirs.

Call `redact` on everything that is written or shown and may quote what a server or a library said.
"""

import contextlib
import functools
import json
import os
import re
import secrets
import stat
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

FILE_VARIABLE = "LONGRL_SECRETS_FILE"
"""The variable with the path of the file from which secrets are loaded into the environment."""
MESSAGE_KEY, HTTP_KEY = "LONGRL_RUN_SECRET", "LONGRL_HTTP_KEY"
"""Random keys for one start of a run, with which its processes recognize each other (`verl_longrl.network`). The second
one is sent unencrypted where there is no TLS, and reveals nothing about the first."""
RUN_KEYS = (MESSAGE_KEY, HTTP_KEY)
FILE_NAME = ".secrets-{}.json"
MIN_LENGTH = 8
"""Characters. A shorter value is not a key, and redacting it would hit ordinary words."""

_NAMES = re.compile(
    r"SECRET|PASSW(OR)?D|PASSPHRASE|CREDENTIAL|KEYS?(?![A-Z])|TOKEN(?![A-Z])|(SSH|GIT|_)PASS(?![A-Z])|_(PWD|PAT|AUTH)$"
    r"|CONNECTION_STRING|COOKIE|^SIG$|SIGNATURE"
)
_PLACES = re.compile(r"_(FILE|PATH|DIR|ENV)$|^GOOGLE_APPLICATION_CREDENTIALS$")
"""Variables that name a place, a file or another variable, are not secret themselves, whatever else their name has."""
_ADDRESS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)([^\s/?#\"'<>]+)@", re.IGNORECASE)
_QUERY = re.compile(r"([?&]([\w.-]+)=)([^\s&#\"'<>]+)")
_HEADER = re.compile(r"(\bAuthorization\W{1,4}(?:\w+ )?|\bBearer +(?=[^\s\"']*\d))([^\s\"',;]{8,})", re.IGNORECASE)
_declared: set[str] = set()


class SecretsError(RuntimeError):
    """The file with the secrets cannot be written or read, or others can read it; the message has the fix."""


def is_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret: WANDB_API_KEY does, TOKENIZERS_PARALLELISM does not."""
    return name in _declared or _sounds_secret(name)


@functools.cache
def _sounds_secret(name: str) -> bool:
    return bool(_NAMES.search(name.upper()) and not _PLACES.search(name.upper()))


def declare_secrets(*names: str) -> None:
    """Treat these variables as secrets from now on in this process, whatever their names are."""
    _declared.update(names)


def select(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that are secrets, by name or because their value is an address with a password."""
    return {name: value for name, value in environment.items() if is_secret(name) or _in_addresses(value) != value}


def without(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables without the secrets, and without the path of the file that has them."""
    hidden = select(environment).keys() | {FILE_VARIABLE}
    return {name: value for name, value in environment.items() if name not in hidden}


def redact(text: str) -> str:
    """`text` with a mark instead of each secret of this process's environment, and instead of credentials in addresses,
    queries and headers. The mark says what was there.

    >>> redact("GET https://me:hunter2@example.org/x?token=abc")
    'GET https://[user and password]@example.org/x?token=[secret]'
    """
    if not text:
        return text
    known = _SecretFinder.of(tuple(select(os.environ).items()))
    return _HEADER.sub(r"\1[secret]", known.redact(_in_addresses(text)))


def _in_addresses(text: str) -> str:
    if "://" not in text:
        return text
    text = _ADDRESS.sub(_address, text)
    return _QUERY.sub(lambda m: f"{m[1]}[secret]" if _sounds_secret(m[2].replace("-", "_")) else m[0], text)


def _address(match: re.Match[str]) -> str:
    # A name alone is a secret for web servers only: https://TOKEN@github.com, but hdfs://user@host.
    is_credential = ":" in match[2] or match[1].lower().startswith("http")
    return f"{match[1]}[user and password]@" if is_credential else match[0]


class _SecretFinder:
    """Finds the values of known secrets, also in the forms that JSON, addresses and logs give them."""

    def __init__(self, variables: Iterable[tuple[str, str]]) -> None:
        self._names = {form: name for name, value in variables for form in _forms(value)}
        # A secret may be a part of another one, which must be found first.
        longest_first = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    @staticmethod
    @functools.lru_cache(maxsize=8)
    def of(variables: tuple[tuple[str, str], ...]) -> "_SecretFinder":
        return _SecretFinder(variables)

    def redact(self, text: str) -> str:
        return self._pattern.sub(lambda m: f"[secret {self._names[m[0]]}]", text) if self._names else text


def _forms(value: str) -> set[str]:
    # Logs are redacted line by line, so each line of a key of several lines counts on its own.
    lines = [line.strip() for line in value.splitlines()]
    plain = {text for text in (value.strip(), *lines) if len(text) >= MIN_LENGTH}
    quoted = (json.dumps(text, ensure_ascii=ascii_)[1:-1] for text in plain for ascii_ in (True, False))
    return {*plain, *quoted, *(urllib.parse.quote(text, safe=safe) for text in plain for safe in ("", "/"))}


@contextlib.contextmanager
def file_for_run(folder: Path, variables: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Keep these variables and new `RUN_KEYS` in a private file in `folder` during the block, then remove it.

    Yields the variables that the process that starts the run needs in its own environment: the file's path, and the
    new keys. Raises SecretsError when the file cannot be written.

    folder: on a disk that every node of the run sees.
    """
    run_keys = {name: secrets.token_hex(32) for name in RUN_KEYS}
    path = folder / FILE_NAME.format(secrets.token_hex(4))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_private(path, json.dumps({**variables, **run_keys}))
    except OSError as error:
        raise SecretsError(f"{path}, for the run's keys, cannot be written: {error.strerror}") from error
    declare_secrets(*variables)
    try:
        yield {FILE_VARIABLE: str(path), **run_keys}
    finally:
        path.unlink(missing_ok=True)


def remove_leftover_files(folder: Path) -> None:
    """Remove files of `file_for_run` that killed starts left behind. Only for a start that holds the folder."""
    for leftover in folder.glob(FILE_NAME.format("*")):
        leftover.unlink(missing_ok=True)


def _write_private(path: Path, text: str) -> None:
    """Write a new file that only this user can read, from the first byte on. Raises OSError, SecretsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w") as file:
        try:
            _refuse_open_to_others(path, os.fstat(descriptor))
        except SecretsError:
            path.unlink()
            raise
        file.write(text)


def _refuse_open_to_others(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        fix = f"chmod 600 {path}, or use another folder if this disk does not support permissions"
        raise SecretsError(f"{path}: holds keys, and others can read it (mode {mode:o}). Fix: {fix}")


def load() -> None:
    """Load the secrets of $LONGRL_SECRETS_FILE into this process's environment; do nothing if it is not set.

    Raises SecretsError when the file is missing, readable for others, or not a JSON object of names and texts.
    """
    if path := os.environ.get(FILE_VARIABLE):
        variables = read_file(Path(path))
        declare_secrets(*variables)
        os.environ.update(variables)


def read_file(path: Path) -> dict[str, str]:
    """The names and values in a file with secrets. Raises SecretsError, without showing the content."""
    try:
        with path.open() as file:
            _refuse_open_to_others(path, os.fstat(file.fileno()))
            values: Any = json.load(file)
    except OSError as error:
        fix = "put it where every machine of the run can read it as the same user"
        raise SecretsError(f"{FILE_VARIABLE} = {path}: cannot be read ({error.strerror}). Fix: {fix}") from error
    except ValueError:
        raise SecretsError(f"{FILE_VARIABLE} = {path}: is not JSON. Fix: write {EXAMPLE}") from None
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise SecretsError(f"{FILE_VARIABLE} = {path}: must hold names and texts only. Fix: write {EXAMPLE}")
    return values


EXAMPLE = '{"WANDB_API_KEY": "..."}'
