"""Descriptors passed between a process of a host user and an agent, over a unix socket in the mounted project.

In the agent it is done in perl, which every Debian image has.
"""

from __future__ import annotations

import contextlib
import pathlib
import pwd
import subprocess
from collections.abc import Iterator, Sequence

_PERL = r"""
use POSIX; use Socket;
my ($door, @command) = @ARGV;
my $arm = (POSIX::uname())[4] =~ /aarch64/;
socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
connect($s, sockaddr_un($door)) or die "connect: $!";
my $data = "x"; my $iov = pack("PQ", $data, 1);
sub message { my ($control) = @_; return pack("QLx4PQPQLx4", 0, 0, $iov, 1, $_[0], length $_[0], 0); }
"""
# The descriptors are 10, 11 … of the command that is run then.
TAKE = (
    _PERL
    + r"""
my $control = "\0" x 256; my $message = message($control);
syscall($arm ? 212 : 47, fileno($s), $message, 0) == 1 or die "recvmsg: $!";
my ($length) = unpack("Q", $control);
my @fds = unpack("l*", substr($control, 16, $length - 16));
@fds or die "no descriptor came";
POSIX::dup2($fds[$_], 30 + $_) for 0 .. $#fds;
POSIX::dup2(30 + $_, 10 + $_) for 0 .. $#fds;
exec @command or die "exec: $!";
"""
)
# The directory that is named is handed over.
GIVE = (
    _PERL
    + r"""
sysopen(my $d, $command[0], O_RDONLY) or die "open: $!";
my $control = pack("QllLx4", 20, SOL_SOCKET, 1, fileno($d)); my $message = message($control);
syscall($arm ? 211 : 46, fileno($s), $message, 0) == 1 or die "sendmsg: $!";
sysread($s, my $end, 1);
"""
)
_HOST = """
import os, socket, subprocess, sys
door, what, *rest = sys.argv[1:]
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(door)
    os.chmod(door, 0o777)
    listener.listen()
    paths = rest if what == "give" else []
    fds = [os.open(path, os.O_RDONLY if n % 2 else os.O_PATH) for n, path in enumerate(paths)]
    print("ready", flush=True)
    while True:
        peer, _ = listener.accept()
        if what == "give":
            socket.send_fds(peer, [b"x"], fds)
            continue
        _, found, _, _ = socket.recv_fds(peer, 1, 4)
        os.dup2(found[0], 10)
        done = subprocess.run(["sh", "-c", rest[0]], pass_fds=[10], capture_output=True, text=True)
        print(done.stdout + done.stderr, flush=True)
        break
"""
PYTHON = "/usr/bin/python3"


def programs(folder: pathlib.Path) -> None:
    """Put the agent's two programs into the project."""
    (folder / "take.pl").write_text(TAKE)
    (folder / "give.pl").write_text(GIVE)


@contextlib.contextmanager
def _process(entry: pwd.struct_passwd, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [PYTHON, "-c", _HOST, *words],
        stdout=subprocess.PIPE,
        text=True,
        user=entry.pw_uid,
        group=entry.pw_gid,
        extra_groups=[],
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def giving(entry: pwd.struct_passwd, door: pathlib.Path, directories: Sequence[str]) -> Iterator[None]:
    """A process of `entry` that hands out descriptors of `directories`, O_PATH and O_RDONLY in turn."""
    with _process(entry, str(door), "give", *directories):
        yield


@contextlib.contextmanager
def taking(entry: pwd.struct_passwd, door: pathlib.Path, script: str) -> Iterator[subprocess.Popen[str]]:
    """A process of `entry` that takes one descriptor and runs `script` with it as 10; its stdout has what that said."""
    with _process(entry, str(door), "take", script) as process:
        yield process
