import hashlib
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from juanji.data.fetch import FetchError, Notes, cache_dir, data_dir, download, make_folder
from juanji.errors import DataError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT in ways that a test chooses."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []
        self.cuts = []  # after so many bytes of a response the connection ends
        self.ranges = True
        self.content = CONTENT
        self.status = []
        self.length = True

    def handle_error(self, request, client_address):
        pass  # a client that has heard enough

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/file"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append(asked)
        if server.status:
            code = server.status.pop(0)
            if code != 200:
                self.send_error(code)
                return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        if start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.cuts:
            body = body[: server.cuts.pop(0)]
        self.wfile.write(body)


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


class Log(Notes):
    def __init__(self):
        self.seen = []

    def update(self, name, done, total):
        self.seen.append((name, done, total))


def files(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_download_and_its_progress(server, tmp_path):
    log = Log()
    path = download(server.url, tmp_path / "deep" / "a", SHA256, progress=log)
    assert path.read_bytes() == CONTENT
    assert files(path.parent) == ["a"]
    assert log.seen[0] == ("a", 0, len(CONTENT))
    assert log.seen[-1] == ("a", len(CONTENT), len(CONTENT))
    download(server.url, path, SHA256)
    assert server.requests == [None]  # what is there is not fetched again


def test_an_interruption_is_resumed(server, tmp_path):
    server.cuts = [300_000, 100_000]
    path = download(server.url, tmp_path / "a", SHA256)
    assert path.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=300000-", "bytes=400000-"]


def test_the_next_call_resumes(server, tmp_path):
    server.cuts = [300_000]
    with pytest.raises(FetchError, match="interrupted"):
        download(server.url, tmp_path / "a", SHA256, retries=-1)
    assert files(tmp_path) == ["a.part"]
    download(server.url, tmp_path / "a", SHA256)
    assert server.requests == [None, "bytes=300000-"]
    assert files(tmp_path) == ["a"]


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    server.ranges = False
    (tmp_path / "a.part").write_bytes(CONTENT[:1000])
    assert download(server.url, tmp_path / "a", SHA256).read_bytes() == CONTENT


def test_a_wrong_partial_file_is_thrown_away(server, tmp_path):
    (tmp_path / "a.part").write_bytes(b"x" * 1000)
    assert download(server.url, tmp_path / "a", SHA256).read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-", None]


def test_a_partial_file_that_is_too_long(server, tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT + b"more")
    assert download(server.url, tmp_path / "a", SHA256).read_bytes() == CONTENT


def test_a_partial_file_in_use_is_left_alone_and_an_old_one_taken(server, tmp_path):
    busy, old = tmp_path / "a.11111111.part", tmp_path / "a.22222222.part"
    busy.write_bytes(CONTENT[:10])
    old.write_bytes(CONTENT[:20])
    os.utime(old, (0, 0))
    download(server.url, tmp_path / "a", SHA256)
    assert server.requests == ["bytes=20-"]
    assert files(tmp_path) == ["a", "a.11111111.part"]


def test_downloads_at_once(server, tmp_path):
    threads = [threading.Thread(target=download, args=(server.url, tmp_path / "a", SHA256)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert files(tmp_path) == ["a"]


def test_a_wrong_checksum(server, tmp_path):
    with pytest.raises(FetchError, match=r"SHA-256 is .*, and 0000.* was expected"):
        download(server.url, tmp_path / "a", "0" * 64)
    assert files(tmp_path) == []


@pytest.mark.parametrize("length", [True, False])
def test_a_file_that_is_too_large(server, tmp_path, length):
    server.length = length
    with pytest.raises(FetchError, match="more than the 1,000 "):
        download(server.url, tmp_path / "a", SHA256, max_bytes=1000)
    assert files(tmp_path) == []


def test_without_a_length(server, tmp_path):
    server.length = False
    assert download(server.url, tmp_path / "a", SHA256).read_bytes() == CONTENT


def test_what_the_server_says(server, tmp_path):
    server.status = [404]
    with pytest.raises(FetchError, match="the server says 404"):
        download(server.url, tmp_path / "a", SHA256)
    server.status = [503, 503]
    download(server.url, tmp_path / "a", SHA256)
    server.status = [500] * 9
    with pytest.raises(FetchError, match="HTTP 500"):
        download(server.url, tmp_path / "b", SHA256)
    assert len(server.status) == 6


def test_an_address_out_of_reach(tmp_path):
    with pytest.raises(FetchError, match=r"^http://127\.0\.0\.1:9/file: cannot be reached \("):
        download("http://127.0.0.1:9/file", tmp_path / "a", SHA256)
    assert files(tmp_path) == []


def test_only_http(tmp_path):
    (tmp_path / "secret").write_bytes(b"x")
    with pytest.raises(ValueError, match="must begin with http"):
        download((tmp_path / "secret").as_uri(), tmp_path / "a", SHA256)


def test_it_takes_too_long(server, tmp_path):
    with pytest.raises(FetchError, match="takes too long"):
        download(server.url, tmp_path / "a", SHA256, max_seconds=-1)
    assert files(tmp_path) == ["a.part"]


def test_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("JUANJI_HOME", str(tmp_path))
    assert data_dir("mnist") == tmp_path / "data" / "mnist"
    assert data_dir() == tmp_path / "data"
    monkeypatch.delenv("JUANJI_HOME")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "juanji"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_dir().parts[-2:] == (".cache", "juanji")
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_dir().parts[-3:] == ("Library", "Caches", "juanji")
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert cache_dir() == tmp_path / "juanji" / "cache"


def test_a_cache_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="set JUANJI_HOME"):
        make_folder(tmp_path / "file" / "data")


def test_notes_go_to_standard_error(capsys):
    Notes().note("hello")
    Notes().update("a", 1, 2)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "hello\n")
