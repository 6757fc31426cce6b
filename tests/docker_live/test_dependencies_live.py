"""Hostile packages through the real installation: no lifecycle script runs, an account without rights does the rest."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import json
import os
import pathlib
import pwd
import shutil
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator

import pytest

from agents.host import dependencies, layout, packages, processes, users
from agents.host.instance import USER_BUILD, Instance
from agents.host.shell import HostError

HERE = Instance(name="jktdep")
MARK = pathlib.Path("/var/tmp/jkt-lifecycle")
LIFECYCLE = ("preinstall", "install", "postinstall", "prepare", "prepublish", "preprepare", "postprepare")
METADATA = "Metadata-Version: 2.1\nName: hostile\nVersion: 1.0\n"
BACKEND = f"open({str(MARK)!r}, 'a').write('built')\n"
PROJECT = '[build-system]\nrequires = []\nbackend-path = ["."]\nbuild-backend = "backend"\n'

# What a build script that somebody got into the front end would try; it tells what it is and what it could do.
BUILD = """
import {execFileSync, spawn} from "node:child_process"
import fs from "node:fs"
const tries = {
  code: () => fs.writeFileSync("%(code)s/x", ""), keys: () => fs.readdirSync("/root"),
  shadow: () => fs.readFileSync("/etc/shadow"), releases: () => fs.mkdirSync("%(release)s/x"),
  root: () => execFileSync("setpriv", ["--reuid=0", "true"], {stdio: "ignore"}),
}
const done = Object.keys(tries).filter(name => { try { tries[name](); return true } catch { return false } })
fs.mkdirSync("static/dist", {recursive: true})
const lines = fs.readFileSync("/proc/self/status", "utf8").split("\\n")
const status = lines.filter(line => /^(Uid|Gid|Groups|Cap|NoNew)/.test(line))
fs.writeFileSync("static/dist/who.json", JSON.stringify({status, done, env: Object.keys(process.env)}))
fs.writeFileSync("static/dist/program", "x"); fs.chmodSync("static/dist/program", 0o6777)
spawn("sleep", ["600"], {detached: true, stdio: "ignore"}).unref()
"""


@pytest.fixture
def release(turn: None, tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """An empty release of an instance that never starts, in its root-owned place."""
    packages.ensure()
    users.ensure_users()
    MARK.unlink(missing_ok=True)
    layout.ensure(layout.code_table(HERE))
    place = HERE.code / "releases" / "some"
    place.mkdir(mode=0o755)
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(HERE.code, ignore_errors=True)
        MARK.unlink(missing_ok=True)


def write(place: pathlib.Path, text: str) -> None:
    """A file of the release, readable for all."""
    for parent in reversed(place.parents):
        if not parent.exists():
            parent.mkdir(mode=0o755)
            parent.chmod(0o755)
    place.write_text(text)
    place.chmod(0o644)


def npm_release(release: pathlib.Path, build: str) -> None:
    """A front end with one hostile dependency beside it; it and the project itself bring every lifecycle script."""
    scripts = dict.fromkeys(LIFECYCLE, f"echo ran >> {MARK}")
    hostile = {"name": "hostile", "version": "1.0.0", "scripts": scripts}
    write(release / "static" / "hostile" / "package.json", json.dumps(hostile))
    write(release / "static" / "hostile" / "index.js", "")
    write(release / "scripts" / "build.mjs", build)
    own = {"name": "front", "version": "1.0.0", "dependencies": {"hostile": "file:static/hostile"}}
    own["scripts"] = scripts | {"build": "node scripts/build.mjs"}
    write(release / "package.json", json.dumps(own))
    command = ["npm", "install", "--package-lock-only", "--ignore-scripts", "--offline", "--no-audit"]
    subprocess.run(command, cwd=release, check=True, capture_output=True)
    (release / "package-lock.json").chmod(0o644)


def test_npm_runs_no_lifecycle_script_and_builds_as_an_account_without_rights(release: pathlib.Path) -> None:
    npm_release(release, BUILD % {"code": HERE.code, "release": release})
    subprocess.run(["npm", "install", "--offline", "--no-audit"], cwd=_copy(release), check=True, capture_output=True)
    assert MARK.read_text().startswith("ran")  # with scripts allowed it does run them
    MARK.unlink()

    dependencies.front_end(release, HERE, extra_ca=None)
    assert not MARK.exists()
    dist = release / "static" / "dist"
    who = json.loads((dist / "who.json").read_text())
    found = dict(line.split(":\t", 1) for line in who["status"])
    builder = pwd.getpwnam(USER_BUILD)
    assert found["Uid"].split() == [str(builder.pw_uid)] * 4
    assert found["Gid"].split() == [str(builder.pw_gid)] * 4
    assert set(found["Groups"].split()) <= {str(builder.pw_gid)}
    assert {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert found["NoNewPrivs"] == "1"
    assert who["done"] == []
    assert not {"JACKIN_SECRET_KEY", "SUDO_USER", "SSH_AUTH_SOCK"} & set(who["env"])
    assert processes.of_user(builder.pw_uid) == []  # what it left running is gone, so nobody can change what was kept
    for path in (dist, *dist.rglob("*")):
        assert (path.lstat().st_uid, path.lstat().st_mode & 0o7022) == (0, 0), path


def _copy(release: pathlib.Path) -> pathlib.Path:
    copy = HERE.code / "work" / "control"
    shutil.copytree(release, copy)
    return copy


@pytest.mark.parametrize(
    "brought", ["symlinkSync('/etc/passwd', 'static/dist/x')", "mkdirSync('static/dist/x'); pipe()"]
)
def test_a_build_that_leaves_a_link_out_or_a_pipe_is_refused(release: pathlib.Path, brought: str) -> None:
    npm_release(
        release,
        'import * as fs from "node:fs"\nimport {execFileSync} from "node:child_process"\n'
        'const {symlinkSync, mkdirSync} = fs, pipe = () => execFileSync("mkfifo", ["static/dist/p"])\n'
        f"mkdirSync('static/dist', {{recursive: true}}); {brought}\n",
    )
    with pytest.raises(HostError, match=r"may not bring that"):
        dependencies.front_end(release, HERE, extra_ca=None)
    assert not (release / "static" / "dist").exists()


class Index(http.server.ThreadingHTTPServer):
    """A list of packages on loopback, which asks the kernel whose each connection is."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.uids: set[int] = set()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        port = f":{self.client_address[1]:04X}"
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(port) and fields[1].startswith("0100007F"):
                self.server.uids.add(int(fields[7]))
        name = self.path.strip("/")
        listing = "".join(f'<a href="/{one}">{one}</a>' for one in self.server.files).encode()
        body = self.server.files.get(name, listing)
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if name not in self.server.files else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def index(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> Iterator[Index]:
    """pip of the installation knows this list and nothing else."""
    with Index(files) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        for name in [name for name in os.environ if name.startswith("PIP_") or name.lower().endswith("_proxy")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def source_package() -> bytes:
    """A package that has to be built: what builds it is its own and leaves a mark."""
    out = io.BytesIO()
    files = {"backend.py": BACKEND, "pyproject.toml": PROJECT, "PKG-INFO": METADATA}
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"hostile-1.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


def wheel() -> bytes:
    """The same, built."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("hostile.py", "")
        archive.writestr("hostile-1.0.dist-info/METADATA", METADATA)
        archive.writestr(
            "hostile-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\nRoot-Is-Purelib: true\n"
        )
        archive.writestr("hostile-1.0.dist-info/RECORD", "")
    return out.getvalue()


def lock(release: pathlib.Path, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    write(release / "requirements.lock", f"hostile==1.0 --hash=sha256:{digest}\n")


def test_pip_builds_no_source_package(release: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = source_package()
    lock(release, content)
    with index(monkeypatch, {"hostile-1.0.tar.gz": content}) as server:
        with pytest.raises(HostError) as caught:
            dependencies.environment(release, HERE, extra_ca=None)
        assert server.uids == {pwd.getpwnam(USER_BUILD).pw_uid}
    assert not MARK.exists()
    assert "hostile" in str(caught.value)
    assert [path.name for path in (HERE.code / "venvs").iterdir()] == []


def test_pip_takes_what_the_lock_says_as_the_build_account(
    release: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = wheel()
    with index(monkeypatch, {"hostile-1.0-py3-none-any.whl": content}) as server:
        lock(release, content + b"another")
        with pytest.raises(HostError, match="THESE PACKAGES DO NOT MATCH THE HASHES"):
            dependencies.environment(release, HERE, extra_ca=None)
        lock(release, content)
        place = dependencies.environment(release, HERE, extra_ca=None)
        assert server.uids == {pwd.getpwnam(USER_BUILD).pw_uid}
    assert [*place.glob("lib/python3*/site-packages/hostile.py")]
    for path in (place, *place.rglob("*")):
        assert path.lstat().st_uid == 0
        assert path.is_symlink() or path.stat().st_mode & 0o7022 == 0, path
