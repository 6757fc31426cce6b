"""What the broker says about sources: asked as their owner, refused by name, and never mounted by a look."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import os
import pathlib
import pwd
import secrets
import socket

import pytest

from agents.engine.errors import BrokerRefused
from agents.engine.types import CheckedMount, MountProblem
from tests.docker_live.broker_fixtures import ann, ben, folder, home, kit, make, mounted, system_group  # noqa: F401
from tests.docker_live.broker_kit import Kit, request, running
from tests.support.machine import run


def look(kit: Kit, path: os.PathLike[str] | str, mode: str = "rw", user: str = "ann") -> CheckedMount | MountProblem:
    """One check, which must not change what is mounted."""
    before = _mounts()
    (found,) = kit.client.check(user, [request(path, "/workspace/p", mode)])
    assert _mounts() == before
    assert kit.client.staged() == []
    return found


def _mounts() -> set[str]:
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    return {line for line in lines if "jackin-stage" in line or ("idmapped" in line and "/home/jkt-" in line)}


def problem(kit: Kit, path: os.PathLike[str] | str, mode: str = "rw", user: str = "ann") -> tuple[str, str]:
    found = look(kit, path, mode, user)
    assert isinstance(found, MountProblem), found
    return found.code, found.message


def test_a_good_source(kit: Kit, home: pathlib.Path) -> None:
    status = home.stat()
    found = look(kit, f"{home}//")
    assert found == CheckedMount(
        source=str(home), real_path=str(home), device=status.st_dev, inode=status.st_ino, fstype="ext4"
    )


def test_wrong_paths_are_refused_by_name(kit: Kit, home: pathlib.Path) -> None:
    (home / "file").write_text("")
    (home / "link").symlink_to(home)
    (home / "loop").symlink_to("loop")
    (home / "kernel").symlink_to("/proc/self/root/home")
    for path, code, named in (
        (home / "missing", "missing", "missing"),
        (home / "missing" / "below", "missing", "below"),
        (home / "file", "not-a-directory", "file"),
        (home / "file" / "below", "not-a-directory", f"{home}/file is a file"),
        (home / "link", "link-elsewhere", f"is a link to {home}. Give {home} itself"),
        (home / "loop", "not-a-directory", "circle"),
        (home / "kernel", "not-a-directory", "kernel"),
        (pathlib.Path("relative"), "not-absolute", "relative"),
        (f"{home}/../work", "dot-dot", ".."),
        (f"{home}/a\x1b[31m", "control-characters", "\\x1b[31m"),
        (f"{home}/{'x' * 10_000}", "too-long", "4095"),
        ("/", "refused-source", "whole machine"),
        ("/etc", "refused-source", "/etc"),
        ("/run", "refused-source", "/run"),
        ("/tmp", "refused-source", "/tmp"),
        ("/var/lib", "refused-source", "/var/lib"),
        ("/var", "refused-source", "/var"),
        (kit.instance.data, "refused-source", "belongs to this service"),
        (kit.instance.stage, "not-readable", "stage"),
    ):
        found, message = problem(kit, path)
        if path == kit.instance.stage:
            assert found in {"not-readable", "refused-source"}
        else:
            assert (found, named in message) == (code, True), (path, found, message)


def test_what_the_owner_may_not_read_is_refused_by_name(
    kit: Kit, ann: pwd.struct_passwd, ben: pwd.struct_passwd, home: pathlib.Path
) -> None:
    with folder(pathlib.Path("/srv/jkt"), None, 0o755) as place:
        closed = make(place / "closed", ben, 0o700)
        make(closed / "below", ben, 0o777)
        walled = make(place / "walled", ben, 0o755)
        run("setfacl", "-m", "u:jkt-ann:---", str(walled))
        lent = make(place / "lent", ben, 0o700)
        run("setfacl", "-m", "u:jkt-ann:r-x", str(lent))
        unlisted = make(place / "unlisted", ben, 0o711)
        for path in (closed, walled, unlisted):
            code, message = problem(kit, path, "ro")
            assert code == "not-readable"
            assert f"jkt-ann may not read {path}" in message
        assert "access list" in problem(kit, walled)[1]
        code, message = problem(kit, closed / "below")
        assert (code, f"the directory {closed} cannot be entered" in message) == ("not-readable", True)
        assert problem(kit, closed / "nothing-here")[1].replace("nothing-here", "below") == message
        assert isinstance(look(kit, lent, "ro"), CheckedMount)
        assert problem(kit, lent, "rw")[0] == "not-writable"
        assert problem(kit, place, "rw")[0] == "not-writable"
        assert isinstance(look(kit, place, "ro"), CheckedMount)
        assert isinstance(look(kit, closed, user="ben"), CheckedMount)


def test_a_group_that_agents_never_get_neither_opens_nor_closes_a_directory(
    kit: Kit, ann: pwd.struct_passwd, home: pathlib.Path, system_group: str
) -> None:
    assert kit.client.identity("ann").groups == ("jkt-team",)
    with folder(pathlib.Path("/srv/jkt"), None, 0o750) as only:
        run("chgrp", system_group, str(only))
        code, message = problem(kit, only, "ro")
        assert (code, "does not get the group" in message) == ("not-readable", True)
        only.chmod(0o705)  # closed for the group, which ann is in, open for all others
        assert problem(kit, only, "ro")[0] == "not-readable"
        only.chmod(0o775)
        assert problem(kit, only, "rw")[0] == "not-writable"


def test_shared_places_hold_only_ones_own(kit: Kit, ann: pwd.struct_passwd, ben: pwd.struct_passwd) -> None:
    with folder(pathlib.Path("/tmp/jkt-ann"), ann) as own, folder(pathlib.Path("/var/tmp/jkt-ben"), ben, 0o777) as bens:
        assert isinstance(look(kit, own), CheckedMount)
        assert problem(kit, bens)[0] == "refused-source"
        assert isinstance(look(kit, bens, user="ben"), CheckedMount)


def test_protected_trees_are_known_behind_bind_mounts(kit: Kit, engine_socket: str, home: pathlib.Path) -> None:
    root = kit.docker("info", "--format", "{{.DockerRootDir}}").strip()
    code, message = problem(kit, pathlib.Path(root).parent.parent, "ro")
    assert code in {"refused-source", "not-readable"}
    for source, reason in (
        (kit.instance.data, "belongs to this service"),
        (kit.instance.stage, "belongs to this service"),
        (kit.instance.data.parent, "it contains"),
        (pathlib.Path(root).parent, ""),
        (pathlib.Path(engine_socket).parent, ""),
    ):
        with mounted("--bind", str(source), str(home)):
            code, message = problem(kit, home, "ro")
            assert (code, reason in message) == ("refused-source", True), (source, message)


def test_a_directory_with_an_engines_socket_is_refused(kit: Kit, ann: pwd.struct_passwd, home: pathlib.Path) -> None:
    make(home / "run", ann)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as engine_like:
        engine_like.bind(str(home / "run" / "docker.sock"))
        for path in (home / "run", home, home.parent):
            assert "socket of a container engine" in problem(kit, path)[1]
    assert isinstance(look(kit, home), CheckedMount)


def test_file_systems_that_cannot_be_mapped_are_named(kit: Kit, home: pathlib.Path) -> None:
    with mounted("-t", "ramfs", "jkt", str(home)):
        code, message = problem(kit, home)
        assert (code, "ramfs" in message, "ext4" in message) == ("filesystem", True, True)
    with mounted("-t", "tmpfs", "-o", "mode=0777", "jkt", str(home)):
        assert isinstance(look(kit, home), CheckedMount)
        run("mount", "-o", "remount,ro", str(home))
        assert problem(kit, home) == (
            "not-writable",
            f"jkt-ann may not write to {home}: its file system is mounted read-only. "
            "Mount it read-only, or choose another directory.",
        )


def test_what_lies_below_a_mount_point_never_appears(kit: Kit, ann: pwd.struct_passwd, home: pathlib.Path) -> None:
    inner = make(home / "inner", ann)
    (inner / "hidden").write_text("hush")
    with mounted("-t", "tmpfs", "-o", f"mode=0755,uid={ann.pw_uid},gid={ann.pw_gid}", "jkt", str(inner)):
        (inner / "visible").write_text("")
        code, message = problem(kit, home)
        assert (code, str(inner) in message) == ("submounts", True)
        elsewhere = [request(home, "/w/p"), request(inner, "/w/q")]
        assert isinstance(kit.client.check("ann", elsewhere)[0], MountProblem)
        both = [request(home, "/w/p"), request(inner, "/w/p/inner")]
        assert all(isinstance(found, CheckedMount) for found in kit.client.check("ann", both))
        with running(kit, "ann", *both) as made:
            assert made.execute("ls /w/p/inner").stdout == "visible\n"


def test_a_destination_inside_another_needs_its_directory(kit: Kit, ann: pwd.struct_passwd, home: pathlib.Path) -> None:
    one, two = make(home / "one", ann), make(home / "two", ann)
    pair = [request(one, "/w/p"), request(two, "/w/p/sub")]
    refused = kit.client.check("ann", pair)[1]
    assert isinstance(refused, MountProblem)
    assert (refused.code, "sub" in refused.message) == ("destination-bad", True)
    make(one / "sub", ann)
    assert all(isinstance(found, CheckedMount) for found in kit.client.check("ann", pair))


def test_destinations_are_answered_at_their_mount(kit: Kit, home: pathlib.Path) -> None:
    found = kit.client.check("ann", [request(home, "/w/p"), request(home, "/w/p"), request(home, "/etc/x")])
    assert isinstance(found[0], CheckedMount)
    assert [each.code for each in found[1:] if isinstance(each, MountProblem)] == [
        "destination-twice",
        "destination-refused",
    ]


def test_a_file_system_with_an_id_mapping_is_refused_by_name(kit: Kit, home: pathlib.Path) -> None:
    staging = kit.client.stage("ann", secrets.token_hex(16), [request(home, "/w/p")])
    target = home.parent / "again"
    target.mkdir()
    try:
        with mounted("--bind", staging.mounts[0].staged, str(target)):
            (found,) = kit.client.check("ann", [request(target, "/w/p", "ro")])
            assert isinstance(found, MountProblem)
            assert (found.code, "id mapping" in found.message) == ("filesystem", True)
    finally:
        kit.client.release(staging.launch)
        target.rmdir()


def test_the_path_picker_shows_what_the_owner_can_enter(
    kit: Kit, ann: pwd.struct_passwd, ben: pwd.struct_passwd, home: pathlib.Path
) -> None:
    for name in ("beta", "alpha", ".hidden", "new\nline"):
        make(home / name, ann)
    (home / "file").write_text("")
    (home / "link").symlink_to(home)
    assert kit.client.directories("ann", str(home)) == (["alpha", "beta", "link"], False)
    assert kit.client.directories("ann", str(home), prefix="a") == (["alpha"], False)
    assert kit.client.directories("ann", str(home), prefix=".") == ([".hidden"], False)
    assert kit.client.directories("ann", str(home), most=1) == (["alpha"], True)
    for path, code in ((ben.pw_dir, "not-readable"), ("/etc", "refused-source"), (str(home / "no"), "missing")):
        with pytest.raises(BrokerRefused) as caught:
            kit.client.directories("ann", path)
        assert caught.value.code == code
