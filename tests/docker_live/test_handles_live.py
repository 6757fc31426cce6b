"""Directory handles passed through a unix socket in the project, into an agent and out of it, give no rights."""

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
from tests.docker_live.broker_kit import Agent, Kit, request, running
from tests.support import handles

GIVEN = ("/", "/", "/proc", "/proc", "/dev", "/dev", "/proc/self/root", "/proc/self/root")  # O_PATH and O_RDONLY each


class Inside:
    """An agent of ann's that takes handles of the host from a process of hers."""

    def __init__(self, agent: Agent, home: pathlib.Path) -> None:
        self.agent = agent
        self.home = home

    def run(self, script: str, *, user: str = "0:0") -> subprocess.CompletedProcess[str]:
        """Run `script` with the handles of GIVEN as descriptors 10, 11 …"""
        (self.home / "script").write_text(script)
        return self.agent.execute("perl /w/take.pl /w/door sh /w/script", user=user)


@pytest.fixture(scope="module")
def project(ann: pwd.struct_passwd) -> Iterator[pathlib.Path]:
    with folder(pathlib.Path(ann.pw_dir) / "handles", ann) as made:
        handles.programs(made)
        yield made


@pytest.fixture(scope="module")
def inside(kit: Kit, ann: pwd.struct_passwd, project: pathlib.Path) -> Iterator[Inside]:
    door = project / "door"
    with handles.giving(ann, door, GIVEN), running(kit, "ann", request(project, "/w")) as agent:
        yield Inside(agent, project)


@pytest.fixture(scope="module")
def places(ben: pwd.struct_passwd) -> Iterator[pathlib.Path]:
    """Directories and files of root's and of ben's, to which ann has no right."""
    with folder(pathlib.Path("/srv/jkt-place")) as place:
        (make(place / "of-root", None, 0o700) / "file").write_text("hush of root\n")
        (make(place / "of-ben", ben, 0o700) / "file").write_text("hush of ben\n")
        (place / "closed").write_text("hush of root\n")
        (place / "closed").chmod(0o600)
        make(place / "open", None, 0o777)
        yield place


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


def test_a_handle_of_the_agents_root_gives_the_host_user_nothing(
    kit: Kit, inside: Inside, ann: pwd.struct_passwd, project: pathlib.Path
) -> None:
    agent = inside.agent
    for name in ("id", "cat"):  # the host's own run in the newer system of the agent, too
        shutil.copy(f"/usr/bin/{name}", project / name)
    made = "echo hush >/root/file && chmod 600 /root/file && cd /tmp && cp /w/id /w/cat . && chmod 6755 id cat"
    assert agent.execute(made, user="0:0").returncode == 0
    assert agent.execute("/tmp/id -u", user="1000:1000").stdout == "0\n"  # inside it counts
    host = "/proc/self/fd/10"
    script = f"""
        ls {host}/etc/hostname
        cat {host}/root/file; echo cat=$?
        {host}/tmp/id -u
        {host}/tmp/cat {host}/root/file; echo set-uid=$?
        touch {host}/root/new; echo touch=$?
        cat {host}/proc/1/environ; echo environ=$?
        cat {host}/dev/mem; echo device=$?
    """
    with handles.taking(ann, project / "out", script) as process:
        agent.execute("perl /w/give.pl /w/out /", user="0:0")
        assert process.stdout is not None
        said = process.stdout.read()
    assert f"{host}/etc/hostname" in said  # it works: what all may read is there
    assert f"\n{ann.pw_uid}\n" in said, said  # id -u: still ann
    assert "hush" not in said
    assert not any(f"{word}=0" in said for word in ("cat", "set-uid", "touch", "environ", "device")), said


def test_the_engines_data_is_closed_to_host_users(kit: Kit, inside: Inside, ann: pwd.struct_passwd) -> None:
    found = kit.inspect(inside.agent.id)["GraphDriver"]["Data"]  # type: ignore[index]
    upper = pathlib.Path(found["UpperDir"])
    assert (upper / "tmp").is_dir()
    line = ["ls", *(str(place) for place in (upper, upper.parent, upper.parents[1], upper.parents[2]))]
    done = subprocess.run(line, user=ann.pw_uid, group=ann.pw_gid, extra_groups=[], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("name", ["root", "cwd", "exe", "fd", "environ", "mem", "maps", "ns/mnt"])
def test_a_host_user_gets_nothing_of_agents_and_broker_through_proc(
    kit: Kit, inside: Inside, ann: pwd.struct_passwd, name: str
) -> None:
    for pid in (inside.agent.pid, kit.pid):
        code = f"import os\npath = '/proc/{pid}/{name}'\n"
        code += "os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read(1) or os.readlink(path)\n"
        line = [handles.PYTHON, "-c", code + "print('read')"]
        assert b"read" in subprocess.run(line, capture_output=True, check=False).stdout or name in {"mem", "ns/mnt"}
        done = subprocess.run(line, user=ann.pw_uid, group=ann.pw_gid, extra_groups=[], capture_output=True)
        assert done.returncode != 0
        assert b"read" not in done.stdout


_ATTACH = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
failed = libc.ptrace(16, int(sys.argv[1]), 0, 0)
print("attached" if not failed else os.strerror(ctypes.get_errno()))
if not failed:
    os.waitpid(int(sys.argv[1]), 0x40000000)
    libc.ptrace(17, int(sys.argv[1]), 0, 0)
"""


def test_nobody_is_traced_by_a_host_user(kit: Kit, inside: Inside, ann: pwd.struct_passwd) -> None:
    def attach(pid: int) -> str:
        line = [handles.PYTHON, "-c", _ATTACH, str(pid)]
        ids = {"user": ann.pw_uid, "group": ann.pw_gid}
        return subprocess.run(line, extra_groups=[], capture_output=True, text=True, check=True, **ids).stdout  # type: ignore[call-overload, no-any-return]

    with contextlib.ExitStack() as stack:
        own = subprocess.Popen(["sleep", "60"], user=ann.pw_uid, group=ann.pw_gid, extra_groups=[])
        stack.callback(own.wait)
        stack.callback(own.kill)
        assert attach(own.pid) == "attached\n"  # her own can be
        for pid in (inside.agent.pid, kit.pid, os.getpid()):
            assert attach(pid) == "Operation not permitted\n"


_LEAVE = r"""
use POSIX;
my $arm = (POSIX::uname())[4] =~ /aarch64/;
my ($file) = @ARGV;
sub set { my ($name, $value) = @_; my $failed = syscall($arm ? 5 : 188, $file, $name, $value, length $value, 0);
          print "$name ", ($failed ? "no\n" : "set\n"); }
set("security.capability", pack("LLLLL", 0x02000001, 0xffffffff, 0, 0xffffffff, 0));
set("security.capability", pack("LLLLLL", 0x03000001, 0xffffffff, 0, 0xffffffff, 0, 0));
set("trusted.jkt", "x");
set("user.jkt", "x");
"""


def test_no_set_uid_root_file_and_no_file_capability_is_left_on_the_host(
    kit: Kit, inside: Inside, ann: pwd.struct_passwd, project: pathlib.Path
) -> None:
    (project / "leave.pl").write_text(_LEAVE)
    for user in ("0:0", "1000:1000"):
        inside.agent.execute("cp /bin/cat /w/by-$(id -u); cp /bin/cat /tmp/by-$(id -u)", user=user)
    inside.agent.execute("cp /bin/cat /w/by-0", user="1000:1000")
    for place in ("/w/by-0", "/w/by-1000"):
        for command in (f"chown 0:0 {place}", f"chown 0 {place} && chmod u+s {place}", f"chgrp 0 {place}"):
            assert inside.agent.execute(command, user="0:0").returncode != 0, command
        assert inside.agent.execute(f"chmod 6755 {place}", user="0:0").returncode == 0
        for user in ("0:0", "1000:1000"):
            said = inside.agent.execute(f"perl /w/leave.pl {place}", user=user).stdout
            assert "security.capability set" not in said
            assert "trusted.jkt set" not in said
        assert "user.jkt set" in inside.agent.execute(f"perl /w/leave.pl {place}").stdout  # the attempt is a real one
    inside.agent.execute("perl /w/leave.pl /tmp/by-0; chown 0:0 /tmp/by-0; chmod 6755 /tmp/by-0", user="0:0")
    upper = pathlib.Path(kit.inspect(inside.agent.id)["GraphDriver"]["Data"]["UpperDir"])  # type: ignore[index]
    assert (upper / "tmp" / "by-0").stat().st_uid == REMAP_BASE
    for path in (*project.rglob("*"), *upper.rglob("*")):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            assert "security.capability" not in os.listxattr(path), path
            allowed = {ann.pw_uid} if project in path.parents else set(range(REMAP_BASE, REMAP_BASE + 65536))
            if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
                assert (status.st_uid in allowed, status.st_gid != 0) == (True, True), path
