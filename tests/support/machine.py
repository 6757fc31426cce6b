"""What tests change and compare on the machine: Unix accounts, and the sets that a launch must leave as they were."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import pwd
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence

from agents.host import engine_config, processes
from agents.host.engine_api import EngineAnswer, EngineApi
from agents.host.instance import Instance
from tests.support.service import wait_for


def run(*command: str, check: bool = True, text: str | None = None, fds: Sequence[int] = ()) -> str:
    """Standard output of a command; on failure an AssertionError with everything that it printed."""
    done = subprocess.run(command, capture_output=True, text=True, input=text, check=False, pass_fds=fds)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def exists(account: str) -> bool:
    """Whether the machine knows the account."""
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True


@contextlib.contextmanager
def unix_account(name: str, *, groups: tuple[str, ...] = ()) -> Iterator[pwd.struct_passwd]:
    """A Unix account with a home directory of mode 0700, removed again afterwards."""
    if exists(name):
        run("userdel", "--force", "--remove", name, check=False)
    run("groupdel", name, check=False)  # stays where it was not the account's primary one any more
    for group in groups:
        run("groupadd", "--force", group)
    extra = ["--groups", ",".join(groups)] if groups else []
    run("useradd", "--create-home", "--shell", "/bin/bash", *extra, name)
    entry = pwd.getpwnam(name)
    pathlib.Path(entry.pw_dir).chmod(0o700)
    try:
        yield entry
    finally:
        run("userdel", "--force", "--remove", name, check=False)
        for group in (name, *groups):
            run("groupdel", group, check=False)


def docker(instance: Instance, *arguments: str, check: bool = True, text: str | None = None) -> str:
    """The Docker command line on the instance's own engine."""
    return run("docker", "-H", f"unix://{instance.engine_socket}", *arguments, check=check, text=text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traces:
    """The sets that must be the same before a launch and after it is gone."""

    containers: frozenset[str]
    networks: frozenset[str]
    volumes: frozenset[str]
    stage: frozenset[str]
    mounts: frozenset[str]
    loops: frozenset[str]
    rules: frozenset[str]
    namespace_rules: frozenset[str]
    links: frozenset[str]
    temporary: frozenset[str]

    @classmethod
    def of(cls, instance: Instance) -> Traces:
        """What the machine shows now, without what belongs to another instance of the service."""

        def listed(*arguments: str) -> frozenset[str]:
            return frozenset(docker(instance, *arguments).split())

        def own(lines: Iterable[str]) -> frozenset[str]:
            others = re.compile(rf"JW-(?!{instance.name}-)|/(jackin-web-|run/netns/)(?!{instance.name}\b)")
            return frozenset(line for line in lines if not others.search(line))

        inside = ("nsenter", f"--net=/run/netns/{instance.netns}")
        mounts = [*_mounts("self"), *_mounts(_engine(instance))]
        links = json.loads(run(*inside, "ip", "-j", "link"))
        return cls(
            containers=listed("ps", "-aq", "--no-trunc"),
            networks=listed("network", "ls", "-q", "--no-trunc", "--filter", "type=custom"),
            volumes=listed("volume", "ls", "-q"),
            stage=frozenset(path.name for path in instance.stage.iterdir()),
            mounts=own(_plain_mount(line) for line in mounts),
            loops=frozenset(run("losetup", "-a", check=False).splitlines()),
            rules=own(_plain(run("iptables-save"))),
            namespace_rules=frozenset(_plain(run(*inside, "iptables-save"))),
            links=frozenset(link["ifname"] for link in links if not link["ifname"].startswith("veth")),
            temporary=frozenset(path.name for path in pathlib.Path("/tmp").glob("*jackin*") if not _of_a_test(path)),
        )

    def difference(self, now: Traces) -> dict[str, list[str]]:
        """What came (+) and what went (-) since, by set; empty when all are the same."""
        found: dict[str, list[str]] = {}
        for field in dataclasses.fields(self):
            before, after = getattr(self, field.name), getattr(now, field.name)
            if before != after:
                found[field.name] = [*(f"+ {one}" for one in after - before), *(f"- {one}" for one in before - after)]
        return found


def same_traces(instance: Instance, before: Traces, *, seconds: float = 30) -> None:
    """Wait until every set is as it was; AssertionError with what differs."""
    try:
        wait_for("the same sets as before", lambda: Traces.of(instance) == before, seconds=seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{json.dumps(before.difference(Traces.of(instance)), indent=1)}") from None


def _engine(instance: Instance) -> int:
    """The engine's process: what it mounts is seen in its own namespace only."""
    found = processes.find(program="dockerd", argument=engine_config.dockerd_file(instance))
    assert found is not None
    found.close()
    return found.pid


def _plain_mount(line: str) -> str:
    """A line of mountinfo without what is another one in each new namespace: numbers of mounts, groups, devices."""
    left, _, right = line.partition(" - ")
    root, point, options = left.split(" ")[3:6]
    return f"{re.sub(r'[0-9]+', '', root) if root.startswith('net:') else root} {point} {options} - {right}"


def _mounts(pid: int | str) -> list[str]:
    return pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines()


def _of_a_test(path: pathlib.Path) -> bool:
    """A scratch directory of a test run, this one's or another's."""
    return path.name.startswith(("jackin-tests-", "jackin-web-test-"))


def _plain(saved: str) -> list[str]:
    """Rules of an `iptables-save` without its comments and packet counters."""
    lines = [line.split(" [")[0] if line.startswith(":") else line for line in saved.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def emptied(api: EngineApi) -> bool:
    """Remove every container of an engine; whether none is left. One that was just killed may need a second try."""
    for container in api.json("GET", "/containers/json", query={"all": "true"}):
        with contextlib.suppress(EngineAnswer):
            api.call("DELETE", f"/containers/{container['Id']}", query={"force": "true", "v": "true"})
    return bool(api.json("GET", "/containers/json", query={"all": "true"}) == [])
