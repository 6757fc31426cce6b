"""Directory handles passed into an agent through a unix socket in the project give no rights."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterator

import pytest

from agents.host.instance import REMAP_BASE
from tests.docker_live.broker_fixtures import ann, ben, folder, home, kit, make, system_group  # noqa: F401
from tests.docker_live.broker_kit import Kit, request, running
from tests.docker_live.handle_fixtures import Inside, inside, places, project  # noqa: F401


@pytest.mark.parametrize("root", [10, 11, 16, 17])
@pytest.mark.parametrize("user", ["0:0", "1000:1000"])
def test_a_handle_of_the_hosts_root_gives_nothing_that_its_owner_may_not(
    inside: Inside, places: pathlib.Path, root: int, user: str
) -> None:
    host = f"/proc/self/fd/{root}"
    assert "jkt-ann" in inside.run(f"cat {host}/etc/passwd", user=user).stdout  # it works: what all may read is read
    for command in (
        f"cat {host}/etc/shadow",
        f"cat {host}{places}/closed",
        f"cat {host}{places}/of-root/file",
        f"cat {host}{places}/of-ben/file",
        f"ls {host}/root {host}{places}/of-ben",
        f"touch {host}/etc/jkt-new",
        f"mkdir {host}{places}/new",
        f"chmod 777 {host}{places}/closed",
        f"chown 0:0 {host}{places}/closed",
        f"echo x >>{host}/etc/passwd",
        f"rm {host}{places}/closed",
        f"mv {host}{places}/closed {host}{places}/elsewhere",
        f"mknod {host}{places}/open/disk b 8 0",
        f"mknod {host}{places}/open/null c 1 3",
        f"chroot {host} cat /etc/shadow",
        f"cd {host} && cat etc/shadow",
        f"mount --bind {host} /mnt",
    ):
        done = inside.run(command, user=user)
        assert done.returncode != 0, command
        assert "hush" not in done.stdout
        assert "root:" not in done.stdout, command
    assert (places / "closed").read_text() == "hush of root\n"
    assert os.listdir(places / "open") == []


def test_a_handle_of_the_owners_home_is_no_way_around_the_mount(
    inside: Inside, ann: pwd.struct_passwd, project: pathlib.Path
) -> None:
    (project.parent / "not-given").write_text("hush")
    os.chown(project.parent / "not-given", ann.pw_uid, ann.pw_gid)
    for user in ("0:0", "1000:1000"):
        for command in (f"ls /proc/self/fd/11{ann.pw_dir}", f"cat /proc/self/fd/10{ann.pw_dir}/not-given"):
            assert inside.run(command, user=user).returncode != 0, command
    (project.parent / "not-given").unlink()


def test_handles_of_devices_and_made_devices_open_none(inside: Inside, project: pathlib.Path) -> None:
    disks = [f"/dev/{name}" for name in os.listdir("/sys/block") if pathlib.Path(f"/dev/{name}").is_block_device()]
    assert disks
    assert inside.run("ls /proc/self/fd/14/").returncode == 0
    for disk in (*disks, "/dev/fuse", "/dev/kmsg", "/dev/mem"):
        name = disk.removeprefix("/dev/")
        for command in (f"head -c1 /proc/self/fd/14/{name}", f"head -c1 /proc/self/fd/15/{name}"):
            assert inside.run(command).returncode != 0, command
    for place in ("/tmp", "/dev", "/w", "/dev/shm", "/run/jackin/secrets", "/proc/self/fd/14/shm"):
        for kind in ("b 8 0", "c 1 1", "c 1 3"):
            assert inside.run(f"mknod {place}/jkt-device {kind}").returncode != 0, (place, kind)
        assert inside.run(f"test -e {place}/jkt-device").returncode != 0


def test_a_device_or_set_uid_file_that_lies_in_the_project_already_does_nothing(
    kit: Kit, ann: pwd.struct_passwd, home: pathlib.Path
) -> None:
    os.mknod(home / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chown(home / "null", ann.pw_uid, ann.pw_gid)
    (home / "null").chmod(0o666)
    (home / "null").open("w").close()  # on the host it works
    with running(kit, "ann", request(home, "/w")) as made:
        for user in ("0:0", "1000:1000"):
            assert made.execute("echo x >/w/null", user=user).returncode != 0
        assert made.execute("cp /usr/bin/id /w/id && chmod 6755 /w/id").returncode == 0
        assert made.execute("cp /usr/bin/id /tmp/id && chmod 6755 /tmp/id").returncode == 0
        assert made.execute("/tmp/id -u", user="1234:1234").stdout == "1000\n"  # as it is where set-uid counts
        assert made.execute("/w/id -u", user="1234:1234").stdout == "1234\n"


@pytest.mark.parametrize("who", ["ann", "ben"])
def test_other_processes_give_nothing_through_a_handle_of_proc(
    kit: Kit, inside: Inside, ben: pwd.struct_passwd, who: str
) -> None:
    owner = pwd.getpwnam(f"jkt-{who}")
    line = ["sleep", "600"]
    own = subprocess.Popen(line, user=owner.pw_uid, group=owner.pw_gid, extra_groups=[], env={"HUSH": "hush"})
    try:
        with running(kit, who, request(owner.pw_dir, "/w")) as other:
            for pid in (1, os.getpid(), kit.pid, own.pid, other.pid):
                for proc in ("/proc/self/fd/12", "/proc/self/fd/13"):
                    assert inside.run(f"cat {proc}/{pid}/stat").returncode == 0
                    for command in (
                        f"ls {proc}/{pid}/root/",
                        f"ls {proc}/{pid}/cwd/",
                        f"readlink {proc}/{pid}/fd/0",
                        f"head -c1 {proc}/{pid}/fd/0",
                        f"cat {proc}/{pid}/environ",
                        f"head -c1 {proc}/{pid}/mem",
                        f"cat {proc}/{pid}/maps",
                        f"cat {proc}/{pid}/exe",
                        f"nsenter --mount={proc}/{pid}/ns/mnt true",
                    ):
                        for user in ("0:0", "1000:1000"):
                            done = inside.run(command, user=user)
                            assert (done.returncode != 0, "hush" in done.stdout) == (True, False), (command, user)
    finally:
        own.kill()
        own.wait()


@pytest.fixture
def bens_agent(kit: Kit, ben: pwd.struct_passwd) -> Iterator[pathlib.Path]:
    """A secret file of an agent of ben's: where it lies on the host's disk."""
    with running(kit, "ben", request(ben.pw_dir, "/w")) as agent:
        agent.execute("echo hush >/root/file && chmod 600 /root/file && echo hush >/tmp/file", user="0:0")
        found = kit.inspect(agent.id)["GraphDriver"]["Data"]  # type: ignore[index]
        yield pathlib.Path(found["UpperDir"])


def test_a_handle_of_the_hosts_root_does_not_lead_to_other_agents_files(
    inside: Inside, bens_agent: pathlib.Path
) -> None:
    """Root has the same id in all containers: only that nothing leads there keeps them apart."""
    assert (bens_agent / "root" / "file").read_text() == "hush\n"
    for user in ("0:0", "1000:1000"):
        for root in (10, 11, 16, 17):
            for command in ("cat", "truncate -s0", "rm"):
                for name in ("root/file", "tmp/file"):
                    done = inside.run(f"{command} /proc/self/fd/{root}{bens_agent}/{name}", user=user)
                    assert (done.returncode != 0, "hush" in done.stdout) == (True, False), (command, name, user)
        assert inside.run(f"ls /proc/self/fd/10{bens_agent.parents[3]}", user=user).returncode != 0
    assert (bens_agent / "tmp" / "file").read_text() == "hush\n"


def test_a_set_uid_program_of_container_roots_that_is_left_on_the_host_opens_no_agents_files(
    inside: Inside, ann: pwd.struct_passwd, project: pathlib.Path, bens_agent: pathlib.Path
) -> None:
    with folder(pathlib.Path("/srv/jkt-open"), ann, 0o777) as place:  # a directory of ann's that all may write
        for name in ("cat", "id"):
            shutil.copy(f"/usr/bin/{name}", project / name)
            made = inside.run(f"cp /w/{name} /proc/self/fd/10{place}/ && chmod 6755 /proc/self/fd/10{place}/{name}")
            assert made.returncode == 0, made.stderr
        ids = {"user": ann.pw_uid, "group": ann.pw_gid, "extra_groups": [], "capture_output": True, "text": True}
        assert subprocess.run([place / "id", "-u"], **ids).stdout == f"{REMAP_BASE}\n"  # type: ignore[call-overload]
        for path in (bens_agent / "root" / "file", bens_agent / "tmp" / "file"):
            done = subprocess.run([place / "cat", path], **ids)  # type: ignore[call-overload]
            assert (done.returncode, done.stdout) == (1, "")


def test_a_set_uid_program_of_container_roots_sees_no_memory_of_agents_and_can_but_signal_them(
    kit: Kit, inside: Inside, ann: pwd.struct_passwd, ben: pwd.struct_passwd, project: pathlib.Path
) -> None:
    """That it can signal is a known limit (docs/security.md): all agents share one range of ids."""
    ids = {"user": ann.pw_uid, "group": ann.pw_gid, "extra_groups": [], "capture_output": True, "text": True}
    with (
        folder(pathlib.Path("/srv/jkt-open"), ann, 0o777) as place,
        running(kit, "ben", request(ben.pw_dir, "/w")) as other,
    ):
        pid = other.execute("sleep 600 </dev/null >/dev/null 2>&1 & echo $!", user="0:0").stdout.strip()
        for name in ("cat", "kill", "readlink"):
            shutil.copy(f"/usr/bin/{name}", project / name)
            made = inside.run(f"cp /w/{name} /proc/self/fd/10{place}/ && chmod 6755 /proc/self/fd/10{place}/{name}")
            assert made.returncode == 0, made.stderr
        sleeping = _on_the_host(other.pid, int(pid))
        for target in (other.pid, sleeping):
            for name in ("mem", "environ", "maps", "root/etc/passwd", "cwd/etc/passwd"):
                done = subprocess.run([place / "cat", f"/proc/{target}/{name}"], **ids)  # type: ignore[call-overload]
                assert (done.returncode, done.stdout) == (1, ""), (target, name)
            done = subprocess.run([place / "readlink", f"/proc/{target}/root"], **ids)  # type: ignore[call-overload]
            assert (done.returncode, done.stdout) == (1, "")
        assert subprocess.run([place / "kill", "-0", str(sleeping)], **ids).returncode == 0  # type: ignore[call-overload]
        for target in (1, os.getpid(), kit.pid):  # nothing of the host's
            assert subprocess.run([place / "kill", "-0", str(target)], **ids).returncode == 1  # type: ignore[call-overload]


def _on_the_host(gate: int, inner: int) -> int:
    """The host's number of the process that is `inner` in the namespace of the process `gate`."""
    namespace = os.stat(f"/proc/{gate}/ns/pid").st_ino
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "ns/pid").stat().st_ino != namespace:
                    continue
                line = next(one for one in (entry / "status").read_text().splitlines() if one.startswith("NSpid:"))
                if int(line.split()[-1]) == inner:
                    return int(entry.name)
    raise AssertionError(f"no process {inner}")
