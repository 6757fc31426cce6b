"""Images whose every program is hostile: nothing of them runs, sees a secret or decides anything before the gate."""

# ruff: noqa: F811 fixtures are imported
from __future__ import annotations

import contextlib
import io
import os
import pathlib
import secrets
import tarfile
from collections.abc import Iterator, Mapping

import pytest

from agents.engine.client import DockerEngine
from agents.engine.errors import BrokerRefused, EngineError
from agents.engine.types import ContainerInfo, LaunchSpec, Limits
from tests.docker_live.broker_fixtures import ann, home, kit, make, system_group  # noqa: F401
from tests.docker_live.broker_kit import IMAGE, Kit, request, wait_for
from tests.support import hostile_programs as hostile
from tests.support.engine_kit import BASE

PROJECT = "/workspace/p"
SECRET = "TOKEN=hush"
# Each is the same hostile program: shells, loaders, and what a gate made of the image's own tools would run.
PROGRAMS = (
    *("bin/sh", "bin/bash", "bin/cat", "bin/env", "bin/busybox", "bin/read", "bin/sleep", "bin/tini"),
    *("usr/bin/env", "usr/bin/sh", "sbin/init", "sbin/docker-init", "jackin/entrypoint"),
    *("lib64/ld-linux-x86-64.so.2", "lib/ld-linux.so.2", "lib/ld-musl-x86_64.so.1"),
    *("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/libc.so.6"),
)
ORDERS = """
ENV LD_PRELOAD=/evil.so LD_AUDIT=/evil.so LD_LIBRARY_PATH=/lib LD_ANYTHING=1
ENV GLIBC_TUNABLES=x BASH_ENV=/bin/sh ENV=/bin/sh
USER 0:0
WORKDIR /workspace/p
VOLUME ["/run/jackin/secrets", "/run/jackin/gate", "/workspace/p", "/workspace"]
HEALTHCHECK --interval=1s CMD ["/bin/sh"]
SHELL ["/bin/sh"]
STOPSIGNAL SIGKILL
EXPOSE 22
ONBUILD USER 0
ENTRYPOINT ["/bin/sh"]
CMD ["/bin/sh"]
"""


class Trial:
    """Images of one test, and a launch of one of them by the product's own engine and broker."""

    def __init__(self, kit: Kit, place: pathlib.Path) -> None:
        self.kit = kit
        self.place = place
        self.program, self.library = hostile.assemble(place, mark=f"{PROJECT}/mark", secret="/run/jackin/secrets/env")
        self.instance = f"jkh{secrets.token_hex(3)}"
        self.engine = DockerEngine(kit.engine, instance=self.instance)
        self.tags: list[str] = []

    def image(self, dockerfile: str, **files: bytes) -> str:
        """Build it; `files` lie beside the Dockerfile (`_` in a name is a dot)."""
        context = self.place / secrets.token_hex(4)
        context.mkdir()
        (context / "Dockerfile").write_text(dockerfile)
        for name, content in files.items():
            (context / name.replace("_", ".")).write_bytes(content)
        tag = f"jackin-hostile/{context.name}:test"
        self.tags.append(tag)
        self.kit.docker("build", "--quiet", "--tag", tag, str(context))
        return tag

    def tree(self, *, links: Mapping[str, str] | None = None, accounts: Mapping[str, str] | None = None) -> bytes:
        """An archive of hostile programs; `links` are symlinks beside them."""
        buffer, links, accounts = io.BytesIO(), links or {}, accounts or {}
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, target in links.items():
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                archive.addfile(entry)
            files = dict.fromkeys(PROGRAMS, self.program.read_bytes())
            files |= {name: text.encode() for name, text in accounts.items()}
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o755
                archive.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()

    @contextlib.contextmanager
    def created(self, image: str, project: pathlib.Path, *argv: str) -> Iterator[tuple[LaunchSpec, str]]:
        """A container of the product's own policy, created and not yet started; its spec and id."""
        staging = self.kit.client.stage("ann", secrets.token_hex(16), [request(project, PROJECT)])
        spec = LaunchSpec(
            name=f"{self.instance}-{secrets.token_hex(3)}",
            agent=secrets.token_hex(16), operation=staging.launch, image=image, argv=argv, env={}, workdir=PROJECT,
            network="none", staging=staging, limits=Limits(cpus=1.0, memory=256 * 1024**2, pids=64), hostname="h",
        )  # fmt: skip
        try:
            yield spec, self.engine.create_container(spec)
        finally:
            for container in self.engine.containers():
                self.engine.remove_container(container.id)
            self.kit.client.release(staging.launch)

    def close(self) -> None:
        self.engine.close()
        for tag in self.tags:
            self.kit.docker("rmi", "--force", tag, check=False)


@pytest.fixture
def trial(kit: Kit, tmp_path: pathlib.Path) -> Iterator[Trial]:
    made = Trial(kit, tmp_path)
    yield made
    made.close()


def programs_in(pid: int) -> dict[int, tuple[int, int]]:
    """Device and inode of what each process of the container runs, whose first process is `pid`."""
    found, namespace = {}, os.stat(f"/proc/{pid}/ns/pid").st_ino
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has ended, or it is the kernel's
            if os.stat(f"/proc/{name}/ns/pid").st_ino == namespace:
                program = os.stat(f"/proc/{name}/exe")
                found[int(name)] = (program.st_dev, program.st_ino)
    return found


def waits_at_its_gate(kit: Kit, spec: LaunchSpec, started: ContainerInfo, project: pathlib.Path) -> None:
    """Only our program runs in it, it waits for its fifo, and nothing hostile has run."""
    wait_for(lambda: pathlib.Path(f"/proc/{started.pid}/wchan").read_text() in {"wait_for_partner", "fifo_open"})
    ours = os.stat(f"{spec.staging.gate}/busybox")
    assert set(programs_in(started.pid).values()) == {(ours.st_dev, ours.st_ino)}
    assert os.listdir(spec.staging.secrets) == []
    assert not (project / "mark").exists()
    assert kit.docker("logs", started.id) == ""
    assert "Health" not in kit.inspect(started.id)["State"]  # type: ignore[operator]


def ran(project: pathlib.Path) -> str:
    """What the hostile code left, once it has run: the control that it does run where it may."""
    mark = project / "mark"
    wait_for(lambda: mark.exists() and hostile.SAID in mark.read_text())
    return mark.read_text()


def test_nothing_of_a_hostile_image_runs_before_its_gate_opens(trial: Trial, kit: Kit, home: pathlib.Path) -> None:
    image = trial.image(f"FROM scratch\nADD tree.tar /\nCOPY evil.so /evil.so\n{ORDERS}",
                        tree_tar=trial.tree(), evil_so=trial.library.read_bytes())  # fmt: skip
    with trial.created(image, home, "/bin/sh") as (spec, container):
        started = trial.engine.start(container)
        waits_at_its_gate(kit, spec, started, home)
        kit.client.admit(spec.staging.launch, pid=started.pid, secrets={"TOKEN": "hush"})
        assert SECRET in ran(home)
        wait_for(lambda: hostile.SAID in kit.docker("logs", started.id))
        environment = pathlib.Path(f"/proc/{started.pid}/environ").read_text().split("\0")
        names = {word.partition("=")[0] for word in environment}
        assert not {name for name in names if name.startswith("LD_")} | {"GLIBC_TUNABLES", "BASH_ENV", "ENV"} & names
        status = pathlib.Path(f"/proc/{started.pid}/status").read_text()
        assert f"Uid:\t{BASE + 1000}\t" in status
        assert os.readlink(f"/proc/{started.pid}/cwd") == "/"


def test_a_preloaded_library_is_not_loaded_before_the_gate_opens(trial: Trial, kit: Kit, home: pathlib.Path) -> None:
    image = trial.image(
        f"FROM {IMAGE}\nCOPY evil.so /evil.so\nCOPY preload /etc/ld.so.preload\n",
        evil_so=trial.library.read_bytes(), preload=b"/evil.so\n",
    )  # fmt: skip
    with trial.created(image, home, "/usr/bin/sleep", "600") as (spec, container):
        started = trial.engine.start(container)
        waits_at_its_gate(kit, spec, started, home)
        kit.client.admit(spec.staging.launch, pid=started.pid, secrets={"TOKEN": "hush"})
        assert SECRET in ran(home)


def stays_shut(trial: Trial, spec: LaunchSpec, container: str, project: pathlib.Path) -> str:
    """The launch ends with a refusal: of the engine, or of the broker; the reason."""
    try:
        started = trial.engine.start(container)
        trial.kit.client.admit(spec.staging.launch, pid=started.pid, secrets={"TOKEN": "hush"})
    except (EngineError, BrokerRefused) as refused:
        assert not (project / "mark").exists()
        assert not (pathlib.Path(spec.staging.secrets) / "env").exists()
        return str(refused)
    raise AssertionError("the gate was opened")


def test_accounts_of_the_image_change_neither_user_nor_group(trial: Trial, kit: Kit, home: pathlib.Path) -> None:
    accounts = {
        "etc/passwd": "1000:x:0:0::/:/bin/sh\nclaude:x:1000:0::/:/bin/sh\n",
        "etc/group": "1000:x:0:\nwheel:x:10:claude,1000\n",
    }
    image = trial.image("FROM scratch\nADD tree.tar /\n", tree_tar=trial.tree(accounts=accounts))
    with trial.created(image, home, "/bin/sh") as (spec, container):
        started = trial.engine.start(container)
        kit.client.admit(spec.staging.launch, pid=started.pid, secrets={})
        lines = pathlib.Path(f"/proc/{started.pid}/status").read_text().splitlines()
        status = dict(line.split(":\t") for line in lines)
        assert set(status["Uid"].split()) | set(status["Gid"].split()) == {str(BASE + 1000)}
        assert {str(BASE + group) for group in spec.staging.groups} <= set(status["Groups"].split())
        assert spec.staging.groups


def test_a_group_of_the_image_that_is_named_like_the_owners_ends_the_launch(trial: Trial, home: pathlib.Path) -> None:
    """The engine looks for a group of that name first: the agent would get that one's rights, and lack the owner's."""
    image = trial.image("FROM scratch\nADD tree.tar /\n", tree_tar=trial.tree(accounts={"etc/group": "2001:x:0:\n"}))
    with trial.created(image, home, "/bin/sh") as (spec, container):
        assert "groups of the owner" in stays_shut(trial, spec, container, home)


LINKS = {
    "run": {"run": "/workspace"},
    "run to proc": {"run": "/proc"},
    "run/jackin": {"run/jackin": "/elsewhere"},
    "run/jackin up": {"run/jackin": "../../../../../../../../var/lib"},
    "gate": {"run/jackin/gate": PROJECT},
    "secrets": {"run/jackin/secrets": PROJECT},
    "workspace": {"workspace": "/proc"},
    "workspace to etc": {"workspace": "/etc"},
    "project": {PROJECT[1:]: "/run/jackin/secrets"},
    "project up": {PROJECT[1:]: "../../../../../../../../../etc"},
}


@pytest.mark.parametrize("links", LINKS.values(), ids=LINKS.keys())
def test_a_link_at_a_destination_ends_the_launch_and_writes_nothing_outside(
    trial: Trial, home: pathlib.Path, links: dict[str, str]
) -> None:
    image = trial.image("FROM scratch\nADD tree.tar /\n", tree_tar=trial.tree(links=links))
    with trial.created(image, home, "/bin/sh") as (spec, container):
        before = outside()
        assert stays_shut(trial, spec, container, home)
        assert outside() == before
    assert os.listdir(home) == []


def outside() -> tuple[list[str], ...]:
    """What a mount or a file that went out of its container would change on the host."""
    mounts = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    own = [line for line in mounts if "/overlay2/" not in line and "/netns/" not in line and "/shm " not in line]
    return (sorted(own), *(sorted(os.listdir(place)) for place in ("/", "/run", "/etc", "/var/lib", "/proc/sys")))
