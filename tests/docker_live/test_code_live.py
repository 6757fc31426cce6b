"""What runs as root and in the pages is root's own copy, and no tree of ours can be mounted, wherever it shows."""

from __future__ import annotations

import json
import os
import pathlib
import pwd
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from agents.host import layout
from tests.docker_live.broker_fixtures import mounted
from tests.support.fixtures import Person
from tests.support.machine import run
from tests.support.service import Service, wait_for
from tests.support.takeover import as_pages
from tests.support.takeover_programs import ASK

PARTS = ("broker", "guard", "terminals", "runner", "daphne")
HOSTILE = "import os\nopen(%r, 'a').write(f'{os.getuid()} {__name__}\\n')\n"


@pytest.fixture
def marker() -> Iterator[pathlib.Path]:
    """Where hostile code leaves its mark; everybody can write it, so that any process of ours would show."""
    place = pathlib.Path("/var/tmp/jkt-hostile")
    place.touch()
    place.chmod(0o666)
    yield place
    place.unlink()


def test_every_process_runs_from_the_root_owned_copy(service: Service) -> None:
    assert not layout.is_safe(service.clone)  # the tree that serve was started from: others can write above it
    assert service.process is not None
    release = pathlib.Path(os.readlink(service.instance.code / "current"))
    assert release.parent == service.instance.code / "releases"
    assert layout.is_safe(release)
    for pid in (service.process.pid, *(service.child(name) for name in PARTS)):
        place = pathlib.Path(f"/proc/{pid}")
        names = place.joinpath("environ").read_bytes().split(b"\0")
        seen = place.joinpath("cmdline").read_bytes() + b"".join(one for one in names if one.startswith(b"PYTHON"))
        seen += place.joinpath("maps").read_bytes() + os.readlink(place / "cwd").encode()
        assert str(service.clone).encode() not in seen, pid
        assert str(release).encode() in seen, pid


def test_what_an_ordinary_user_writes_into_the_tree_is_never_run(
    service: Service, owner: Person, marker: pathlib.Path
) -> None:
    files = [path for path in service.clone.rglob("*.py") if path.parts[-2:] != ("tests", "conftest.py")]
    kept = {path: path.read_bytes() for path in files}
    account = pwd.getpwnam(owner.account)
    try:
        for path in files:
            path.write_bytes((HOSTILE % str(marker)).encode())
            os.chown(path, account.pw_uid, account.pw_gid)
        for name in PARTS:
            service.kill_child(name)
        wait_for("the pages", lambda: answers(f"{service.url}/login"))
        assert marker.read_text() == ""
        subprocess.run(["/usr/bin/python3", "-c", "import agents.broker.server"], cwd=service.clone, check=False)
        assert marker.read_text() != ""  # it would have shown
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
            os.chown(path, 0, 0)


def test_our_trees_and_their_parents_are_refused_as_mounts_wherever_they_show(service: Service, owner: Person) -> None:
    """By inode: each is bound to a directory of the owner's own, whose name says nothing."""
    instance = service.instance
    release = pathlib.Path(os.readlink(instance.code / "current"))
    open_ones = [
        instance.data, instance.code, release, release / "agents", release / "venv" / "lib",
        release / "staticfiles", instance.code / "venvs", instance.data.parent, instance.code.parent,
        pathlib.Path("/opt"), pathlib.Path("/var"), pathlib.Path("/"),
    ]  # fmt: skip
    closed = [
        instance.keys, instance.states, instance.stage, instance.trash, instance.host_dir, instance.run_root,
        instance.run_web, instance.web, instance.engine_dir, instance.engine_dir / "data", instance.logs,
    ]  # fmt: skip
    place = owner.home / "bound"
    run("install", "-d", "-o", owner.account, "-g", owner.account, "-m", "0755", str(place))
    assert ask(service, owner, place)["ok"] is True
    said = {}
    for tree in (*open_ones, *closed):
        with mounted("--bind", str(tree), str(place)):
            said[tree] = ask(service, owner, place)
    assert [tree for tree, found in said.items() if found["ok"]] == []
    for tree, found in said.items():
        # Where the owner may not even look, or other file systems lie below, that may be said first.
        allowed = {"refused-source", "submounts" if tree in open_ones else "not-readable"}
        assert found["code"] in allowed, (tree, found)
    for tree in (
        instance.data,
        instance.engine_dir,
        instance.code,
        release,
        release / "agents",
        release / "staticfiles",
    ):
        assert "this service" in str(said[tree]["message"]), (tree, said[tree])


def answers(address: str) -> bool:
    """Whether a page is there."""
    try:
        with urllib.request.urlopen(address, timeout=5) as page:
            return bool(page.status == 200)
    except OSError:
        return False


def ask(service: Service, person: Person, source: pathlib.Path) -> dict[str, object]:
    """What the runner says of one mount."""
    mount = {"source": str(source), "destination": "/workspace/x", "mode": "ro"}
    request = {"op": "check_mounts", "user": person.name, "mounts": [mount]}
    (answer,) = as_pages(ASK, str(service.instance.runner_socket), text=json.dumps([request]))
    (found,) = answer["results"]
    return dict(found)
