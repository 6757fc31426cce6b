"""Snapshots by the whole service: of a running agent, put back, with parts killed in between."""

from __future__ import annotations

import functools
import io
import json
import os
import pathlib
import re
import signal
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator

import pytest
import zstandard

from tests.support.agents import container_of, execute
from tests.support.fixtures import Person
from tests.support.machine import docker, run
from tests.support.service import Service, wait_for
from tests.support.web import STATE, WebClient

pytestmark = pytest.mark.live

LARGE = 150 * 1024**2  # bytes that do not compress: long enough to look at


class Kept:
    """A running agent and its state on disk."""

    def __init__(self, service: Service, web: WebClient, owner: Person) -> None:
        self.service = service
        self.web = web
        self.owner = owner
        self.project = owner.directory("snapshots")
        self.uid = self.project.stat().st_uid
        self.before = set(self.place("x").parent.iterdir()) if self.place("x").parent.exists() else set()
        self.agent = web.launch([(str(self.project), "/workspace/project", "rw")])

    @functools.cached_property
    def state(self) -> str:
        ask = f"from agents.models import *; print(Agent.objects.get(key='{self.agent}').agent_state.key)"
        return self.rows(ask).split()[-1]

    def fill_state(self) -> None:
        place = self.place(self.state)
        (place / ".claude").mkdir(exist_ok=True)
        (place / ".claude" / "history.jsonl").write_text("what was said")
        (place / ".claude" / ".credentials.json").write_text("token")
        (place / ".claude" / ".claude.json").write_text(json.dumps({"theme": "dark", "oauthAccount": {"id": 1}}))
        with (place / "large").open("wb") as file:
            for _ in range(LARGE // 2**20):
                file.write(os.urandom(2**20))
        run("chown", "-R", f"{self.owner.account}:", str(place))
        place.chmod(0o700)

    def rows(self, code: str) -> str:
        done = self.service.manage("shell", "-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def place(self, state: str) -> pathlib.Path:
        return self.service.instance.states / str(self.uid) / state

    def status(self) -> str:
        form = "{{.State.Status}}"
        return docker(
            self.service.instance, "inspect", "-f", form, container_of(self.service.instance, self.agent)
        ).strip()

    def snapshot(self, **form: str) -> str:
        """Ask for one; the address of its operation."""
        answer = self.web.post(f"/states/{self.state}/snapshot", form, page="/account")
        assert "/operations/" in answer.url, answer.text
        return answer.url.removeprefix(self.service.url)

    def restore(self, key: str, into: str, **form: str) -> str:
        page = f"/snapshots/{key}/restore"
        answer = self.web.post(page, {"into": into, **form}, page=page)
        assert "/operations/" in answer.url, answer.text
        return answer.url.removeprefix(self.service.url)

    def ended(self, operation: str, *, word: str = "Done") -> str:
        """Wait for the operation's end; its page."""

        def look() -> str:
            page = self.web.get(operation).text
            found = STATE.search(page)
            return page if found and found.group(1) in ("Done", "Failed", "Cancelled") else ""

        page = wait_for("the operation's end", look, seconds=120)
        found = STATE.search(page)
        assert found
        assert found.group(1) == word, page
        return page

    def kept(self) -> list[str]:
        """Keys of the snapshots on the page, the newest first."""
        return re.findall(r'id="snapshot-([0-9a-f]{32})"', self.web.get("/snapshots").text)

    def files(self) -> list[str]:
        return sorted(os.listdir(self.service.instance.snapshots))


@pytest.fixture
def kept(service: Service, web: WebClient, owner: Person) -> Iterator[Kept]:
    made = Kept(service, web, owner)
    try:
        made.fill_state()
        yield made
    finally:
        if made.web.state(made.agent) == "Running":
            made.web.eject(made.agent)
        for place in set(made.place("x").parent.iterdir()) - made.before:
            run("rm", "-rf", "--one-file-system", str(place))


def while_it_runs(look: Callable[[], object], end: Callable[[], object]) -> set[object]:
    """What `look` saw until `end` returned."""
    seen: set[object] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.add(look())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        end()
    finally:
        stop.set()
        thread.join()
    return seen


def test_a_running_agent_is_snapshotted_and_its_state_put_back(kept: Kept) -> None:
    execute(
        kept.service.instance, kept.agent, "sh", "-c",
        "while :; do date +%s%N > /workspace/project/beat; sleep 0.05; done", detach=True,
    )  # fmt: skip
    beat = kept.project / "beat"
    wait_for("the agent's beat", beat.exists)
    operation = kept.snapshot()
    seen = while_it_runs(kept.status, lambda: kept.ended(operation))
    assert seen == {"running", "paused"}
    assert kept.status() == "running"
    before = beat.read_text()
    wait_for("the agent to go on", lambda: beat.read_text() not in ("", before))
    (key,) = kept.kept()
    folder = kept.service.instance.snapshots / key
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    content = (folder / "state.tar.zst").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(zstandard.ZstdDecompressor().stream_reader(content).read())) as tar:
        names = tar.getnames()
        configuration = tar.extractfile(".claude/.claude.json")
        assert configuration is not None
        assert json.load(configuration) == {"theme": "dark"}
    assert ".claude/history.jsonl" in names
    assert ".claude/.credentials.json" not in names

    assert "uses this state" in kept.web.get(f"/snapshots/{key}/restore").text
    kept.web.eject(kept.agent)
    history = kept.place(kept.state) / ".claude" / "history.jsonl"
    history.write_text("lost")
    kept.ended(kept.restore(key, "same"))
    assert history.read_text() == "what was said"
    assert history.stat().st_uid == kept.uid
    assert not (kept.place(kept.state) / ".claude" / ".credentials.json").exists()
    assert len(kept.kept()) == 2, "what was there before"

    kept.ended(kept.restore(key, "new"))
    states = {place.name for place in kept.place("x").parent.iterdir()}
    (fresh,) = states - {kept.state} - {place.name for place in kept.before}
    assert (kept.place(fresh) / ".claude" / "history.jsonl").read_text() == "what was said"
    assert {found.lstat().st_uid for found in kept.place(fresh).rglob("*")} == {kept.uid}
    assert list(kept.service.instance.trash.iterdir()) == []

    before_restore = kept.kept()[0]
    kept.ended(kept.restore(before_restore, "same"))
    assert history.read_text() == "lost"


def test_parts_that_are_killed_half_way_leave_nothing_frozen_and_nothing_half_made(kept: Kept) -> None:
    files, mine = kept.files(), kept.kept()
    operation = kept.snapshot()
    wait_for("the freeze", lambda: kept.status() == "paused")
    kept.service.kill_child("archiver")
    page = kept.ended(operation, word="Failed")
    assert "archiver" in page
    wait_for("the thaw", lambda: kept.status() == "running")
    assert (kept.files(), kept.kept()) == (files, mine)

    operation = kept.snapshot()
    wait_for("the freeze", lambda: kept.status() == "paused")
    os.kill(kept.service.child("runner"), signal.SIGKILL)
    kept.ended(operation)
    assert kept.status() == "running"
    assert len(kept.kept()) == len(mine) + 1
    assert len(kept.files()) == len(files) + 1

    operation = kept.snapshot()
    wait_for("the freeze", lambda: kept.status() == "paused")
    kept.web.post(f"{operation}/cancel", {}, page=operation)
    kept.ended(operation, word="Cancelled")
    assert kept.status() == "running"
    assert len(kept.files()) == len(files) + 1
