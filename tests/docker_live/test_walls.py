"""What an agent can and cannot do with the files of this machine, tried in a real one as user and as root."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.support.agents import execute
from tests.support.fixtures import Person
from tests.support.machine import run
from tests.support.service import Service
from tests.support.web import WebClient


@pytest.fixture(scope="module")
def web(service: Service, owner: Person) -> WebClient:
    """Alice, logged in."""
    found = WebClient(service)
    found.log_in(owner.name, owner.password)
    return found


@pytest.fixture(scope="module")
def tree(owner: Person) -> pathlib.Path:
    """A project of alice's in which a file of root's lies, and a directory that she only lends for reading."""
    own = ("-o", owner.account, "-g", owner.account)
    tree = owner.home / "walls"
    run("install", "-d", *own, "-m", "0755", str(owner.home / "walls"), str(tree / "sub"), str(owner.home / "lent"))
    for place in (tree, owner.home / "lent"):
        (place / "of-root").write_text("only root reads this\n")
        (place / "of-root").chmod(0o600)
    (owner.home / "not-mounted").write_text("secret of alice\n")
    return tree


@pytest.fixture(scope="module")
def agent(web: WebClient, owner: Person, tree: pathlib.Path) -> Iterator[str]:
    """A running shell agent with `tree` writable and `lent` read-only."""
    key = web.launch([(str(tree), "/workspace/walls", "rw"), (str(owner.home / "lent"), "/workspace/lent", "ro")])
    yield key
    web.eject(key)


def inside(service: Service, agent: str, script: str, *, user: str = "1000") -> str:
    """Run a shell script in the agent; output and errors, and its exit code at the end."""
    return execute(service.instance, agent, "sh", "-c", f"{{ {script}; }} 2>&1; echo exit=$?", user=user)


def test_the_owner_of_a_new_file_is_the_owner_on_disk(
    service: Service, owner: Person, agent: str, tree: pathlib.Path
) -> None:
    assert "exit=0" in inside(service, agent, "echo hi > /workspace/walls/by-claude")
    assert (tree / "by-claude").owner() == owner.account


@pytest.mark.parametrize("user", ["1000", "0"])
def test_a_read_only_mount_cannot_be_written(service: Service, owner: Person, agent: str, user: str) -> None:
    said = inside(service, agent, "touch /workspace/lent/new", user=user)
    assert "Read-only file system" in said
    assert "exit=0" not in inside(service, agent, "mount -o remount,rw /workspace/lent", user=user)
    assert not (owner.home / "lent" / "new").exists()


@pytest.mark.parametrize("user", ["1000", "0"])
def test_paths_that_are_not_mounted_do_not_exist(service: Service, owner: Person, agent: str, user: str) -> None:
    said = inside(service, agent, f"ls {owner.home} /workspace/walls/../../{owner.home}/not-mounted", user=user)
    assert said.count("No such file") == 2
    assert sorted(inside(service, agent, "ls /workspace").split()[:2]) == ["lent", "walls"]


def test_root_inside_has_no_power_over_what_is_not_the_owners(service: Service, agent: str, tree: pathlib.Path) -> None:
    assert "Permission denied" in inside(service, agent, "cat /workspace/walls/of-root", user="0")
    assert "exit=0" not in inside(service, agent, "echo x > /workspace/walls/by-root", user="0")
    assert "exit=0" not in inside(service, agent, "chown 0:0 /workspace/walls/by-claude", user="0")
    assert "exit=0" not in inside(service, agent, "chmod 777 /workspace/walls/of-root", user="0")
    assert not (tree / "by-root").exists()
    assert (tree / "of-root").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "command",
    [
        "sudo apt-get update -qq && sudo apt-get install -y -qq cowsay && /usr/games/cowsay hello",
        "npm install -g is-number && ls ~/.local/lib/node_modules/is-number/package.json",
        "pip install --quiet six && python3 -c 'import six'",
    ],
)
def test_packages_can_be_installed(service: Service, agent: str, command: str) -> None:
    said = execute(service.instance, agent, "bash", "-lc", f"{command} 2>&1; echo exit=$?")
    assert said.rstrip().endswith("exit=0"), said


def refused(web: WebClient, mounts: list[tuple[str, str, str]], **changed: str) -> str:
    """Send the form, which must come back with errors; its page."""
    answer = web.launch_form(mounts, **changed)
    assert answer.status_code == 200, f"{answer.status_code} {answer.url}"
    assert answer.url.endswith("/launch")
    return answer.text


def test_what_the_owner_may_not_read_is_refused_by_name(web: WebClient, owner: Person, colleague: Person) -> None:
    own = owner.home / "closed"
    run("install", "-d", "-o", "root", "-g", "root", "-m", "0700", str(own))
    assert str(own) in refused(web, [(str(own), "/workspace/x", "ro")])

    below = owner.home / "no-x" / "below"
    run("install", "-d", "-o", "root", "-g", "root", "-m", "0755", str(below.parent), str(below))
    below.parent.chmod(0o744)  # may be listed, may not be entered
    assert str(below) in refused(web, [(str(below), "/workspace/x", "ro")])

    run("install", "-d", "-o", colleague.account, "-g", colleague.account, "-m", "0755", str(colleague.home / "public"))
    assert str(colleague.home / "public") in refused(web, [(str(colleague.home / "public"), "/workspace/x", "ro")])

    acl = owner.home / "acl"
    run("install", "-d", "-o", "root", "-g", "root", "-m", "0755", str(acl))
    run("setfacl", "-m", f"u:{owner.account}:---", str(acl))
    assert str(acl) in refused(web, [(str(acl), "/workspace/x", "ro")])

    may_not_write = owner.home / "read-it"
    run("install", "-d", "-o", "root", "-g", "root", "-m", "0755", str(may_not_write))
    assert str(may_not_write) in refused(web, [(str(may_not_write), "/workspace/x", "rw")])


def test_bad_sources_and_destinations_lose_nothing(
    service: Service, web: WebClient, owner: Person, tree: pathlib.Path
) -> None:
    (owner.home / "file").write_text("")
    (owner.home / "link").unlink(missing_ok=True)
    (owner.home / "link").symlink_to("/srv")
    bad_sources = [
        str(owner.home / "missing"),
        str(owner.home / "file"),
        "relative/path",
        f"{tree}/../walls",
        str(owner.home / "link"),
        "/",
        "/etc",
        "/run",
        "/tmp",
        str(service.instance.engine_dir),
        str(service.instance.data),
        "/var/lib",
        "/home/\x07bell",
        "/" + "a" * 10_000,
    ]
    for source in bad_sources:
        page = refused(web, [(str(tree), "/workspace/walls", "rw"), (source, "/workspace/other", "ro")])
        assert "mounts-1-source_error" in page, source
        assert "mounts-0-source_error" not in page, source
        assert str(tree) in page, source
    for destination in ["relative", "/", "/etc", "/run/jackin/gate", "/usr/bin", "/proc/1", "/workspace/\x1b[31m"]:
        page = refused(web, [(str(tree), destination, "rw")])
        assert "mounts-0-destination_error" in page, destination
    twice = refused(web, [(str(tree), "/workspace/walls", "rw"), (str(tree / "sub"), "/workspace/walls", "ro")])
    assert "destination" in twice
    assert "class_slug_error" in refused(web, [(str(tree), "/workspace/walls", "rw")], class_slug="nonsense")
    assert "cpus_error" in refused(web, [(str(tree), "/workspace/walls", "rw")], cpus="4096")
    assert "memory_gb_error" in refused(web, [(str(tree), "/workspace/walls", "rw")], memory_gb="1e9")


def test_a_source_with_a_mount_below_it_is_refused(web: WebClient, tree: pathlib.Path) -> None:
    run("mount", "-t", "tmpfs", "tmpfs", str(tree / "sub"))
    try:
        assert str(tree / "sub") in refused(web, [(str(tree), "/workspace/walls", "ro")])
    finally:
        run("umount", str(tree / "sub"))
