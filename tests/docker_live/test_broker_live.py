"""What the broker mounts, seen from inside a real container; and the gate, which stays shut on any difference."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import grp
import os
import pathlib
import pwd
import secrets

import pytest

from agents.broker.counters import COUNTERS
from agents.engine.errors import BrokerRefused
from tests.docker_live.broker_fixtures import ann, ben, home, kit, make, system_group  # noqa: F401
from tests.docker_live.broker_kit import IMAGE, Agent, Kit, agent, request, running, wait_for
from tests.support.machine import run


def traces(kit: Kit) -> tuple[set[str], list[str], list[str], set[str]]:
    """Mounts of the broker's, what is in its stage, its children, its descriptors."""
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    stage = str(kit.instance.stage.resolve())  # as mountinfo names it
    mounts = {line.split(" ", 1)[1] for line in lines if stage in line}
    children = pathlib.Path(f"/proc/{kit.pid}/task/{kit.pid}/children").read_text().split()
    fds = {os.readlink(f"/proc/{kit.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{kit.pid}/fd")}
    return mounts, sorted(os.listdir(kit.instance.stage)), children, fds


def test_the_owners_files_belong_to_the_agent_and_back(kit: Kit, ann: pwd.struct_passwd, home: pathlib.Path) -> None:
    team = grp.getgrnam("jkt-team")
    shared = make(home / "shared", ann, 0o2775)
    os.chown(shared, ann.pw_uid, team.gr_gid)
    shared.chmod(0o2775)
    (home / "mine").write_text("of ann\n")
    os.chown(home / "mine", ann.pw_uid, ann.pw_gid)
    with running(kit, "ann", request(home, "/workspace/p")) as made:
        assert made.staging.groups == (2001,)
        seen = made.execute(
            "cd /workspace/p && stat -c '%u:%g %n' mine shared && echo new >file && echo new >shared/file"
        )
        assert seen.stdout.split("\n")[:2] == ["1000:1000 mine", "1000:2001 shared"], seen.stderr
    for path, gid in ((home / "file", ann.pw_gid), (shared / "file", team.gr_gid)):
        assert (path.stat().st_uid, path.stat().st_gid) == (ann.pw_uid, gid)


def test_root_in_the_container_has_no_power_over_other_peoples_files(
    kit: Kit, ann: pwd.struct_passwd, ben: pwd.struct_passwd, home: pathlib.Path
) -> None:
    for name, owner in (("of-root", 0), ("of-ben", ben.pw_uid)):
        (home / name).write_text("hush\n")
        (home / name).chmod(0o600)
        os.chown(home / name, owner, owner)
    make(home / "closed", None, 0o700)
    with running(kit, "ann", request(home, "/workspace/p")) as made:
        for command in (
            "cat of-root",
            "cat of-ben",
            "ls closed",
            "touch as-root",
            "mkdir as-root",
            "chmod 644 of-root",
            "chown 0 of-root",
            "chown 1000 of-ben",
            "mknod device b 8 0",
            "echo x >>of-root",
            "mount -o remount,rw /workspace/p",
            "umount /workspace/p",
            "cat /proc/1/root/etc/shadow /etc/../../etc/shadow | grep jkt-ann",
        ):
            done = made.execute(f"cd /workspace/p && {command}", user="0:0")
            assert done.returncode != 0, command
            assert "hush" not in done.stdout
        assert made.execute("touch /workspace/p/mine && chown 0:0 /workspace/p/mine", user="1000:1000").returncode
        assert made.execute("chown 0:0 /workspace/p/mine", user="0:0").returncode
        assert made.execute("cp /bin/sh /workspace/p/su && chmod u+s /workspace/p/su").returncode == 0
    assert (home / "su").stat().st_uid == ann.pw_uid
    assert (home / "mine").stat().st_uid == ann.pw_uid
    assert not (home / "as-root").exists()


def test_a_read_only_mount_cannot_be_written_by_root_either(
    kit: Kit, home: pathlib.Path, ann: pwd.struct_passwd
) -> None:
    (home / "file").write_text("as it was\n")
    os.chown(home / "file", ann.pw_uid, ann.pw_gid)
    with running(kit, "ann", request(home, "/workspace/p", "ro")) as made:
        for user in ("1000:1000", "0:0"):
            for command in ("echo x >file", "touch new", "rm file", "chmod 777 file", "mount -o remount,rw,bind ."):
                assert made.execute(f"cd /workspace/p && {command}", user=user).returncode, (user, command)
    assert (home / "file").read_text() == "as it was\n"
    assert os.listdir(home) == ["file"]


def test_a_read_only_mount_is_read_only_before_an_engine_sees_it(kit: Kit, home: pathlib.Path) -> None:
    staged = {}
    for mode in ("ro", "rw"):
        (staged[mode],) = kit.client.stage("ann", mode.encode().hex() * 8, [request(home, "/w", mode)]).mounts
    try:
        pathlib.Path(staged["rw"].staged).chmod(0o755)
        with pytest.raises(OSError, match="Read-only file system"):
            pathlib.Path(staged["ro"].staged).chmod(0o755)
    finally:
        for launch in kit.client.staged():
            kit.client.release(launch)


def test_the_gate_holds_until_it_is_opened_and_then_nothing_is_left(kit: Kit, home: pathlib.Path) -> None:
    before = traces(kit)
    with agent(kit, "ann", request(home, "/workspace/p")) as made:
        pid = made.start()
        wait_for(lambda: "open" in _waiting_for(pid))
        assert pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"/run/jackin/gate/busybox\0sh\0")
        assert made.execute("cat /run/jackin/secrets/env").returncode != 0
        kit.client.admit(made.staging.launch, pid=pid, secrets={"TOKEN": "a b\nc"})
        wait_for(lambda: pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00600\0")
        assert made.execute("tr '\\0' ';' </run/jackin/secrets/env").stdout == "TOKEN=a b\nc;"
        assert made.execute("cat /run/jackin/secrets/env", user="1234:1234").returncode != 0
        assert made.execute("rm /run/jackin/secrets/env && ls -A /run/jackin/secrets").stdout == ""
        for name, most in COUNTERS.items():
            assert int(made.execute(f"cat /proc/sys/user/{name}").stdout) <= most
        assert kit.client.staged() == []
        wait_for(lambda: traces(kit) == before)
        with pytest.raises(BrokerRefused) as caught:
            kit.client.admit(made.staging.launch, pid=pid, secrets={})
        assert caught.value.code == "unknown-launch"


def _waiting_for(pid: int) -> str:
    """The system call that the process sleeps in, by the file that it opens: the fifo has no writer yet."""
    return "open" if pathlib.Path(f"/proc/{pid}/wchan").read_text() in {"wait_for_partner", "fifo_open"} else ""


def refused(kit: Kit, made: Agent, *, pid: int | None = None) -> str:
    """Start, be refused, and see that the gate stayed shut and no secret was handed over; gives the message."""
    own = made.start()
    with pytest.raises(BrokerRefused) as caught:
        kit.client.admit(made.staging.launch, pid=pid or own, secrets={"TOKEN": "hush"})
    assert caught.value.code == "mismatch"
    assert b"busybox" in pathlib.Path(f"/proc/{own}/cmdline").read_bytes()
    assert not (pathlib.Path(made.staging.secrets) / "env").exists()
    return caught.value.message


def test_a_mount_that_vanished_before_the_start_leaves_the_gate_shut(kit: Kit, home: pathlib.Path) -> None:
    with agent(kit, "ann", request(home, "/workspace/p")) as made:
        run("umount", made.staging.mounts[0].staged)
        assert "/workspace/p" in refused(kit, made)


@pytest.mark.parametrize("what", ["another source", "not mapped", "secrets", "gate"])
def test_a_swapped_mount_leaves_the_gate_shut(kit: Kit, home: pathlib.Path, ann: pwd.struct_passwd, what: str) -> None:
    one, two = make(home / "one", ann), make(home / "two", ann)
    staging = kit.client.stage("ann", secrets.token_hex(16), [request(one, "/w/one"), request(two, "/w/two")])
    binds = {
        "another source": {"/w/one": staging.mounts[1].staged},
        "not mapped": {"/w/one": str(one)},
        "secrets": {"/run/jackin/secrets": staging.mounts[1].staged},
        "gate": {},
    }[what]
    made = Agent(kit, staging, binds=binds)
    try:
        made.create("sleep", "600")
        if what == "gate":  # the container has the gate of this launch, but is presented as another one's
            with agent(kit, "ann", request(one, "/w/one"), request(two, "/w/two")) as other:
                own = made.start()
                assert "program" in refused(kit, other, pid=own)
        else:
            refused(kit, made)
    finally:
        made.remove()
        kit.client.release(staging.launch)


def test_a_writable_bind_of_a_read_only_gate_or_a_forgotten_mount_leaves_the_gate_shut(
    kit: Kit, home: pathlib.Path
) -> None:
    with agent(kit, "ann", request(home, "/workspace/p")) as made:
        made.remove()
        other = make(home / "extra", None)
        bind = f"type=bind,src={other},dst=/workspace/extra"
        gate = f"type=bind,src={made.staging.gate},dst=/run/jackin/gate,readonly"
        source = f"type=bind,src={made.staging.mounts[0].staged},dst=/workspace/p"
        keys = f"type=bind,src={made.staging.secrets},dst=/run/jackin/secrets"
        wrong = {
            "unexpected": [bind, gate, source, keys],
            "/run/jackin/gate lacks ro": [gate.removesuffix(",readonly"), source, keys],
            "/workspace/p": [gate, keys],
            "/run/jackin/secrets": [gate, source],
        }
        for reason, mounts in wrong.items():
            options = ["--network", "none", "--user", "1000:1000", "--label", "jackin.test=broker"]
            options += [word for mount in mounts for word in ("--mount", mount)]
            command = ["--entrypoint", "/run/jackin/gate/busybox", IMAGE, "sh", "/run/jackin/gate/gate", "id"]
            made.id = kit.docker("create", *options, *command).strip()
            assert reason in refused(kit, made)
            made.remove()


def test_only_the_first_process_of_the_right_container_is_admitted(kit: Kit, home: pathlib.Path) -> None:
    with agent(kit, "ann", request(home, "/workspace/p")) as made:
        refused(kit, made, pid=os.getpid())
        refused(kit, made, pid=kit.pid)
        with running(kit, "ann", request(home, "/workspace/p")) as other:
            refused(kit, made, pid=other.pid)
        kit.client.admit(made.staging.launch, pid=made.pid, secrets={})


def test_staging_again_is_the_same_staging_and_another_request_is_a_conflict(kit: Kit, home: pathlib.Path) -> None:
    before = traces(kit)
    launch = secrets.token_hex(16)
    first = kit.client.stage("ann", launch, [request(f"{home}/", "/workspace/p")])
    assert kit.client.stage("ann", launch, [request(f"{home}/", "/workspace/p")]) == first
    with pytest.raises(BrokerRefused) as caught:
        kit.client.stage("ann", launch, [request(home, "/workspace/p", "ro")])
    assert caught.value.code == "conflict"
    run("umount", first.mounts[0].staged)
    again = kit.client.stage("ann", launch, [request(home, "/workspace/p")])
    assert again.mounts[0].inode == first.mounts[0].inode
    assert again.mounts[0].staged != first.mounts[0].staged
    assert kit.client.staged() == [launch]
    kit.client.release(launch)
    kit.client.release(launch)
    wait_for(lambda: traces(kit) == before)


def test_all_or_nothing(kit: Kit, home: pathlib.Path) -> None:
    before = traces(kit)
    with pytest.raises(BrokerRefused) as caught:
        kit.client.stage("ann", secrets.token_hex(16), [request(home, "/w/a"), request("/etc", "/w/b")])
    assert (caught.value.code, caught.value.index) == ("refused-source", 1)
    wait_for(lambda: traces(kit) == before)


def test_a_restarted_broker_goes_on_and_removes_what_was_left_half_made(kit: Kit, home: pathlib.Path) -> None:
    with agent(kit, "ann", request(home, "/workspace/p")) as made:
        stage = kit.instance.stage.resolve()
        half, lost = stage / secrets.token_hex(16), stage / f"{secrets.token_hex(16)}.json"
        half.mkdir()
        run("mount", "-t", "tmpfs", "half", str(half))
        lost.write_text("{}")
        kit.stop()
        kit.start()
        assert kit.client.staged() == [made.staging.launch]
        assert str(half) not in pathlib.Path("/proc/self/mountinfo").read_text()
        kit.client.admit(made.staging.launch, pid=made.start(), secrets={})
