"""A run's secrets: which they are, how they reach its workers, and that nothing written or shown has them.

A secret is a variable whose name says so (`is_secret`), whose value is an address with a password in it, or that an
option names as the holder of a key (`declare`). None enters a runtime environment, a command line, a configuration or
a log: others may read those. Ray writes runtime environments to its logs and to its workers' command lines. So the
start of a run writes its secrets to a file that only their owner can read (`file_for_run`), LONGRL_SECRETS_FILE tells
the workers where it is, and each loads them into its environment before anything else of the run (`load`). Users may
write such a file themselves, {"NAME": "value", ...}, where a run starts on another machine than theirs.

`redact` is for whatever is written or shown, and may quote what a server or a library said.
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
"""Path of the file with the secrets, which are loaded into the environment."""
MESSAGE_KEY, HTTP_KEY = "LONGRL_RUN_SECRET", "LONGRL_HTTP_KEY"
"""Random, made for one start of a run: by them its processes know each other (`verl_longrl.network`). The second is
sent in the clear where there is no TLS, and says nothing about the first."""
RUN_KEYS = (MESSAGE_KEY, HTTP_KEY)
FILE_NAME = ".secrets-{}.json"
MIN_LENGTH = 8
"""Characters: a shorter value is no key, and would be found in every other word."""

_NAMES = re.compile(
    r"SECRET|PASSW(OR)?D|PASSPHRASE|CREDENTIAL|KEYS?(?![A-Z])|TOKEN(?![A-Z])|(SSH|GIT|_)PASS(?![A-Z])|_(PWD|PAT|AUTH)$"
    r"|CONNECTION_STRING|COOKIE|^SIG$|SIGNATURE"
)
_PLACES = re.compile(r"_(FILE|PATH|DIR|ENV)$|^GOOGLE_APPLICATION_CREDENTIALS$")
"""Names of files, and of variables, that hold secrets."""
_ADDRESS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)([^\s/?#\"'<>]+)@", re.IGNORECASE)
_QUERY = re.compile(r"([?&]([\w.-]+)=)([^\s&#\"'<>]+)")
_HEADER = re.compile(r"(\bAuthorization\W{1,4}(?:\w+ )?|\bBearer +(?=[^\s\"']*\d))([^\s\"',;]{8,})", re.IGNORECASE)
_declared: set[str] = set()


class SecretsError(RuntimeError):
    """The file with the secrets cannot be written, read, or is no secret any more; the message says the fix."""


def is_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret: WANDB_API_KEY does, TOKENIZERS_PARALLELISM does not."""
    return name in _declared or _sounds_secret(name)


@functools.cache
def _sounds_secret(name: str) -> bool:
    return bool(_NAMES.search(name.upper()) and not _PLACES.search(name.upper()))


def declare(*names: str) -> None:
    """Variables that are secrets whatever they are called, from now on in this process."""
    _declared.update(names)


def select(environment: Mapping[str, str]) -> dict[str, str]:
    """The secrets among these variables, by name or because their value is an address with a password."""
    return {name: value for name, value in environment.items() if is_secret(name) or _in_addresses(value) != value}


def without(environment: Mapping[str, str]) -> dict[str, str]:
    """These variables without the secrets, and without the place of the file that has them."""
    hidden = select(environment).keys() | {FILE_VARIABLE}
    return {name: value for name, value in environment.items() if name not in hidden}


def redact(text: str) -> str:
    """The text with a mark in the place of each secret of this process's environment, and of credentials in addresses,
    queries and headers; the mark says what was there."""
    if not text:
        return text
    known = _SecretFinder.of(tuple(select(os.environ).items()))
    return _HEADER.sub(r"\1[secret]", known.redact(_in_addresses(text)))


def _in_addresses(text: str) -> str:
    if "://" not in text:
        return text
    text = _ADDRESS.sub(_address, text)
    return _QUERY.sub(lambda m: f"{m[1]}[secret]" if _sounds_secret(m[2].replace("-", "_")) else m[0], text)


def _address(found: re.Match[str]) -> str:
    """A name alone is a secret for web servers only (https://TOKEN@github.com, but hdfs://user@host)."""
    secret = ":" in found[2] or found[1].lower().startswith("http")
    return f"{found[1]}[user and password]@" if secret else found[0]


class _SecretFinder:
    """Finds the values of known secrets, also as JSON, addresses and logs write them."""

    def __init__(self, variables: Iterable[tuple[str, str]]) -> None:
        self._names = {form: name for name, value in variables for form in _forms(value)}
        longest_first = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    @staticmethod
    @functools.lru_cache(maxsize=8)
    def of(variables: tuple[tuple[str, str], ...]) -> "_SecretFinder":
        return _SecretFinder(variables)

    def redact(self, text: str) -> str:
        return self._pattern.sub(lambda m: f"[secret {self._names[m[0]]}]", text) if self._names else text


def _forms(value: str) -> set[str]:
    lines = [line.strip() for line in value.splitlines()]  # logs are read line by line
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
    made = {name: secrets.token_hex(32) for name in RUN_KEYS}
    path = folder / FILE_NAME.format(secrets.token_hex(4))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_private(path, json.dumps({**variables, **made}))
    except OSError as error:
        raise SecretsError(f"{path}, for the run's keys, cannot be written: {error.strerror}") from error
    declare(*variables)
    try:
        yield {FILE_VARIABLE: str(path), **made}
    finally:
        path.unlink(missing_ok=True)


def remove_leftover_files(folder: Path) -> None:
    """Remove what starts that were killed left of `file_for_run`; for a start that has the folder to itself."""
    for left in folder.glob(FILE_NAME.format("*")):
        left.unlink(missing_ok=True)


def _write_private(path: Path, text: str) -> None:
    """A new file that only this user can read, from its first byte on. Raises OSError, SecretsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w") as file:
        try:
            _refuse_open_to_others(path, os.fstat(descriptor))
        except SecretsError:
            path.unlink()
            raise
        file.write(text)


def _refuse_open_to_others(path: Path, found: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        fix = f"chmod 600 {path}; or, where a disk knows no permissions, another folder"
        raise SecretsError(f"{path} is for keys, and others can read it (mode {mode:o}). Fix: {fix}")


def load() -> None:
    """Have the secrets of $LONGRL_SECRETS_FILE in this process's environment; nothing is done where it is not set.

    Raises SecretsError when the file is not there, readable for others, or no JSON object of names and texts.
    """
    if path := os.environ.get(FILE_VARIABLE):
        variables = read_file(Path(path))
        declare(*variables)
        os.environ.update(variables)


def read_file(path: Path) -> dict[str, str]:
    """The names and values of a file with secrets. Raises SecretsError, without showing what is in it."""
    try:
        with path.open() as file:
            _refuse_open_to_others(path, os.fstat(file.fileno()))
            values: Any = json.load(file)
    except OSError as error:
        fix = "every machine of the run has to see it, as the same user"
        raise SecretsError(f"{FILE_VARIABLE} = {path} cannot be read ({error.strerror}). Fix: {fix}") from error
    except ValueError:
        raise SecretsError(f"{FILE_VARIABLE} = {path} is no JSON. Fix: {EXAMPLE}") from None
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise SecretsError(f"{FILE_VARIABLE} = {path} has something else than names and texts. Fix: {EXAMPLE}")
    return values


EXAMPLE = '{"WANDB_API_KEY": "..."}'
