"""What leaves an agent: handles, set-uid files, capabilities, processes; a host user gains nothing by them."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import shutil
import stat
import subprocess
import time

import pytest

from agents.broker import owner
from agents.host.instance import REMAP_BASE
from tests.docker_live.broker_fixtures import ann, ben, folder, home, kit, make, system_group  # noqa: F401
from tests.docker_live.broker_kit import Kit
from tests.docker_live.handle_fixtures import Inside, inside, places, project  # noqa: F401
from tests.support import handles


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


def test_the_brokers_child_that_became_a_user_is_not_traced_by_that_user(kit: Kit, ann: pwd.struct_passwd) -> None:
    attach = _ATTACH.replace("sys.argv[1]", "number").replace("failed =", "number = sys.stdin.readline()\nfailed =", 1)
    ids = {"user": ann.pw_uid, "group": ann.pw_gid, "extra_groups": []}
    with subprocess.Popen(  # type: ignore[call-overload]
        [handles.PYTHON, "-c", attach], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **ids
    ) as tracer:
        ask, answer = tracer.stdin.fileno(), tracer.stdout.fileno()

        def task() -> tuple[owner.Answer, int | None]:
            os.write(ask, f"{os.getpid()}\n".encode())
            return {"uid": os.getuid(), "said": os.read(answer, 100).decode()}, None

        until = time.monotonic() + 10
        with owner.run_as(task, uid=ann.pw_uid, gid=ann.pw_gid, groups=[], until=until, keep=[ask, answer]) as found:
            assert found[0] == {"uid": ann.pw_uid, "said": "Operation not permitted\n"}


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
