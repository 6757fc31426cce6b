"""Groups: which of an account's reach its agents, what they open, and who may speak to our engine."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import contextlib
import grp
import pathlib
import pwd
import stat
import subprocess
from collections.abc import Iterator

import pytest

from agents.broker.accounts import DENIED_GROUPS
from agents.engine.errors import BrokerRefused
from agents.engine.types import CheckedMount, MountProblem
from tests.docker_live.broker_fixtures import ann, folder, home, kit, make, system_group  # noqa: F401
from tests.docker_live.broker_kit import Kit, request, running
from tests.support.handles import PYTHON
from tests.support.machine import run, unix_account

NAMED = ("docker", "sudo", "wheel", "adm", "disk", "shadow", "kvm", "lxd", "libvirt", "systemd-journal")


@contextlib.contextmanager
def group(name: str, *options: str) -> Iterator[grp.struct_group]:
    """The group, made for the time of the block if the machine has none."""
    try:
        yield grp.getgrnam(name)
        return
    except KeyError:
        run("groupadd", *options, name)
    try:
        yield grp.getgrnam(name)
    finally:
        run("groupdel", name, check=False)


@pytest.fixture
def dot(kit: Kit) -> Iterator[pwd.struct_passwd]:
    """An account that the test puts into groups, linked to the web user `dot`."""
    with unix_account("jkt-dot", groups=("jkt-team2",)) as entry:
        kit.client.link("dot", "jkt-dot")
        yield entry
        kit.client.unlink("dot")


@contextlib.contextmanager
def allowed(kit: Kit, *names: str) -> Iterator[None]:
    """Groups that root allows by name."""
    file = kit.instance.keys / "allowed-groups"
    file.write_text("".join(f"{name}\n" for name in names))
    try:
        yield
    finally:
        file.unlink()


def join(account: str, *names: str) -> None:
    run("usermod", "--append", "--groups", ",".join(names), account)


@pytest.mark.parametrize("name", NAMED)
def test_a_group_with_power_over_the_machine_never_reaches_an_agent(
    kit: Kit, dot: pwd.struct_passwd, name: str
) -> None:
    assert name in DENIED_GROUPS
    with group(name) as found, folder(pathlib.Path("/srv/jkt-place"), None, 0o770) as place:
        run("chgrp", str(found.gr_gid), str(place))
        join("jkt-dot", name)
        assert found.gr_gid in _gids("jkt-dot")  # the account itself is in it
        assert kit.client.identity("dot").groups == ("jkt-team2",)
        (refused,) = kit.client.check("dot", [request(place, "/w")])
        assert isinstance(refused, MountProblem)
        assert "does not get the group" in refused.message
        with pytest.raises(BrokerRefused):
            kit.client.stage("dot", "d" * 32, [request(place, "/w")])


def _gids(account: str) -> set[int]:
    return {int(gid) for gid in run("id", "-G", account).split()}


def test_no_gid_below_1000_reaches_an_agent_unless_root_allows_its_name(
    kit: Kit, dot: pwd.struct_passwd, system_group: str
) -> None:
    with group("jkt-kvm2", "--system") as second, folder(pathlib.Path("/srv/jkt-place"), None, 0o2770) as place:
        run("chgrp", system_group, str(place))
        place.chmod(0o2770)
        join("jkt-dot", system_group, second.gr_name)
        with running(kit, "dot", request(dot.pw_dir, "/w")) as made:
            assert made.staging.groups == (2001,)
            assert set(made.execute("id -G").stdout.split()) == {"1000", "2001"}
        with allowed(kit, system_group):
            assert set(kit.client.identity("dot").groups) == {"jkt-team2", system_group}
            with running(kit, "dot", request(place, "/w")) as made:
                assert set(made.execute("id -G").stdout.split()) == {"1000", "2001", "2002"}
                assert made.execute("echo x >/w/file").returncode == 0
            assert (place / "file").stat().st_gid == grp.getgrnam(system_group).gr_gid
        assert kit.client.identity("dot").groups == ("jkt-team2",)


@pytest.mark.parametrize("mode", ["ro", "rw"])
@pytest.mark.parametrize(
    ("bits", "group_name", "opened"),
    [
        (0o705, "jkt-system", {"ro": False, "rw": False}),  # closed for the group, which the agent does not get
        (0o707, "jkt-system", {"ro": False, "rw": False}),
        (0o750, "jkt-system", {"ro": False, "rw": False}),  # open for that group only
        (0o775, "jkt-system", {"ro": True, "rw": False}),
        (0o757, "jkt-system", {"ro": True, "rw": False}),  # more for all others than for the group
        (0o705, "jkt-team2", {"ro": False, "rw": False}),
        (0o770, "jkt-team2", {"ro": True, "rw": True}),
        (0o707, "jkt-none", {"ro": True, "rw": True}),
    ],
)
def test_what_is_opened_is_open_with_all_groups_and_with_the_allowed_ones(
    kit: Kit, dot: pwd.struct_passwd, system_group: str, bits: int, group_name: str, opened: dict[str, bool], mode: str
) -> None:
    join("jkt-dot", system_group)
    with group("jkt-none"), folder(pathlib.Path("/srv/jkt-place")) as place:
        run("chgrp", group_name, str(place))
        place.chmod(bits)
        (found,) = kit.client.check("dot", [request(place, "/w", mode)])
        assert isinstance(found, CheckedMount) == opened[mode], found


def test_a_file_that_a_group_may_not_read_is_not_opened_by_dropping_that_group(
    kit: Kit, dot: pwd.struct_passwd, system_group: str
) -> None:
    """0604: in the agent, without the group, its owner's other rights would count, so the directory is refused."""
    join("jkt-dot", system_group)
    with folder(pathlib.Path("/srv/jkt-place"), None, 0o705) as place:
        run("chgrp", system_group, str(place))
        (place / "file").write_text("hush\n")
        (place / "file").chmod(0o604)
        run("chgrp", system_group, str(place / "file"))
        with pytest.raises(BrokerRefused) as caught:
            kit.client.stage("dot", "d" * 32, [request(place, "/w", "ro")])
        assert caught.value.code == "not-readable"


_CONNECT = """
import socket, sys
for path in sys.argv[1:]:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(path)
        except OSError as error:
            print(error.errno, path)
        else:
            print("connected", path)
"""


def test_a_member_of_the_docker_group_gets_eacces_on_our_sockets(
    kit: Kit, dot: pwd.struct_passwd, engine_socket: str
) -> None:
    data = pathlib.Path(engine_socket).parents[1]
    sockets = [str(path) for path in (*data.rglob("*.sock"), kit.instance.broker_socket) if path.is_socket()]
    assert engine_socket in sockets
    assert any(path.endswith("containerd.sock") for path in sockets)
    line = [PYTHON, "-c", _CONNECT, *sockets]
    assert f"connected {engine_socket}" in run(*line)  # root can
    with group("docker") as docker:
        join("jkt-dot", "docker")
        done = subprocess.run(
            line,
            user=dot.pw_uid,
            group=dot.pw_gid,
            extra_groups=sorted(_gids("jkt-dot")),
            capture_output=True,
            text=True,
        )
        assert docker.gr_gid in _gids("jkt-dot")
    assert done.stdout.splitlines() == [f"13 {path}" for path in sockets], done.stderr


def test_our_sockets_belong_to_no_group_of_the_host(kit: Kit, engine_socket: str) -> None:
    for path in (pathlib.Path(engine_socket), kit.instance.broker_socket):
        found = path.stat()
        assert (found.st_uid, grp.getgrgid(found.st_gid).gr_name) == (0, "jackin-run")
        assert stat.S_IMODE(found.st_mode) == 0o660


def test_an_account_that_changed_since_it_was_linked(kit: Kit, dot: pwd.struct_passwd) -> None:
    """Another uid is refused. A new primary group counts at once, if agents may have it at all."""
    with group("jkt-none") as other:
        run("usermod", "--gid", other.gr_name, "jkt-dot")
        assert kit.client.identity("dot").gid == other.gr_gid
        run("usermod", "--gid", "sudo", "jkt-dot")
        assert _refusal(kit) == "account-refused"
        run("usermod", "--gid", str(dot.pw_gid), "jkt-dot")
        assert kit.client.identity("dot").gid == dot.pw_gid
    run("usermod", "--uid", str(dot.pw_uid + 70), "jkt-dot")
    assert _refusal(kit) == "account-changed"
    run("usermod", "--uid", str(dot.pw_uid), "jkt-dot")
    assert kit.client.identity("dot").uid == dot.pw_uid


def test_an_account_that_was_deleted_is_refused_until_its_name_has_its_uid_again(
    kit: Kit, dot: pwd.struct_passwd
) -> None:
    """As for the kernel, name and number are the account: whoever gives both away again gives the link away, too."""
    run("userdel", "--force", "--remove", "jkt-dot", check=False)
    assert _refusal(kit) == "account-changed"
    run("useradd", "--create-home", "--uid", str(dot.pw_uid + 71), "jkt-dot")
    assert _refusal(kit) == "account-changed"
    run("userdel", "--force", "--remove", "jkt-dot", check=False)
    run("useradd", "--create-home", "--uid", str(dot.pw_uid), "jkt-dot")
    assert kit.client.identity("dot").uid == dot.pw_uid


def _refusal(kit: Kit) -> str:
    with pytest.raises(BrokerRefused) as caught:
        kit.client.identity("dot")
    return caught.value.code
