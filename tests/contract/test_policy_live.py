"""What the engine has made of our policy, looked at from outside and from inside of a real container."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import pytest

from agents.engine.containers import CAPABILITIES
from agents.engine.types import LaunchSpec
from tests.support.engine_kit import BASE, RealKit, read_until, wait_for

pytestmark = pytest.mark.live

HOSTILE = """FROM jackin/base:trixie
ENV LD_PRELOAD=/nowhere.so LD_SOMETHING=/nowhere BASH_ENV=/nowhere ENV=/nowhere HARMLESS=kept
VOLUME /from-the-image /another
HEALTHCHECK --interval=1s CMD touch /health-was-run
USER 0
WORKDIR /opt
ENTRYPOINT ["/bin/false"]
CMD ["never"]
"""


def inspect(real: RealKit, container: str) -> dict[str, Any]:
    with real.engine._pool.client(container) as client:
        found: dict[str, Any] = client.api.inspect_container(container)
        return found


def volumes(real: RealKit) -> set[str]:
    with real.engine._pool.client("volumes") as client:
        return {volume["Name"] for volume in client.api.volumes()["Volumes"] or []}


def answer(real: RealKit, spec: LaunchSpec, script: str) -> str:
    """Run `script` as the container's program; what it prints."""
    spec = dataclasses.replace(spec, argv=("/bin/sh", "-c", f"{{ {script}; }} 2>&1; echo END; exec cat"))
    made = real.engine.create_container(spec)
    with real.engine.attach(made) as stream:
        real.engine.start(made)
        real.open_gate(spec)
        return read_until(stream, b"END\r\n").decode().removesuffix("END\r\n").replace("\r\n", "\n")


def test_the_image_decides_nothing(real: RealKit) -> None:
    build = real.build_spec("hostile", HOSTILE)
    real.engine.build_image(build, log=lambda line: None)
    before = volumes(real)
    try:
        spec = real.launch_spec(image=build.tag)
        said = answer(real, spec, "env; id -u; pwd; ls /health-was-run")
        environment = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        assert not {"LD_PRELOAD", "LD_SOMETHING", "BASH_ENV", "ENV"} & environment.keys()
        assert environment["HARMLESS"] == "kept"
        assert environment["JACKIN_SEEN"] == "yes"
        assert environment["JACKIN_WORKDIR"] == spec.workdir
        assert "\n1000\n/\n" in said
        assert "cannot access '/health-was-run'" in said
        found = inspect(real, spec.name)
        assert "Health" not in found["State"]
        assert len(volumes(real) - before) == 2  # else the next line shows nothing
        real.engine.remove_container(spec.name)
        assert volumes(real) == before
    finally:
        for container in real.engine.containers():
            real.engine.remove_container(container.id)
        with real.engine._pool.client(build.tag) as client:
            client.images.remove(build.tag)


def test_what_the_engine_was_told(real: RealKit) -> None:
    spec = real.launch_spec()
    real.engine.create_container(spec)
    found = inspect(real, spec.name)
    host = found["HostConfig"]
    assert host["Privileged"] is False
    assert host["CapDrop"] == ["ALL"]
    assert {capability.removeprefix("CAP_") for capability in host["CapAdd"]} == set(CAPABILITIES)
    assert (host["IpcMode"], host["CgroupnsMode"], host["PidMode"], host["UsernsMode"]) == (
        "private",
        "private",
        "",
        "",
    )
    assert not host["Devices"]
    assert not host["Binds"]
    assert host["RestartPolicy"]["Name"] in ("", "no")
    assert host["LogConfig"]["Type"] == "local"
    assert (host["Memory"], host["MemorySwap"]) == (spec.limits.memory, spec.limits.memory)
    assert (host["NanoCpus"], host["PidsLimit"]) == (10**9, 256)
    assert {mount["Target"]: bool(mount.get("ReadOnly")) for mount in host["Mounts"]} == {
        "/run/jackin/gate": True,
        "/run/jackin/secrets": False,
        "/workspace/project": False,
        "/workspace/project/lent": True,
    }
    assert {mount["BindOptions"]["Propagation"] for mount in host["Mounts"]} == {"rprivate"}
    assert list(found["NetworkSettings"]["Networks"]) == [spec.network]


def test_the_gate_holds_until_it_is_opened(real: RealKit) -> None:
    spec = real.launch_spec(script="echo begun; exec cat")
    made = real.engine.create_container(spec)
    with real.engine.attach(made) as stream:
        pid = real.engine.start(made).pid
        command = pathlib.Path(f"/proc/{pid}/cmdline")
        assert command.read_bytes().startswith(b"/run/jackin/gate/busybox\0sh\0/run/jackin/gate/gate\0")
        real.open_gate(spec)
        assert read_until(stream, b"\r\n") == b"begun\r\n"
        wait_for("the program", lambda: command.read_bytes() == b"cat\0")


def test_inside_it_is_an_unprivileged_user_of_the_host(real: RealKit) -> None:
    spec = real.launch_spec()
    made = real.engine.create_container(spec)
    status = pathlib.Path(f"/proc/{real.engine.start(made).pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert set(fields["Uid"].split()) == {str(BASE + 1000)}
    assert set(fields["Groups"].split()) >= {str(BASE + 2001), str(BASE + 2002)}
    assert fields["CapEff"] == "0" * 16
    assert int(fields["CapBnd"], 16) == sum(1 << bit for bit in (0, 1, 3, 4, 5, 6, 7, 10, 29))
    assert fields["NoNewPrivs"] == "0"  # sudo needs its set-uid bit, see container_kwargs
    assert fields["Seccomp"] == "2"


def test_mounts_are_as_asked_and_the_gate_is_read_only(real: RealKit) -> None:
    spec = real.launch_spec()
    said = answer(
        real,
        spec,
        "touch /workspace/project/new && echo written; touch /workspace/project/lent/new; touch /run/jackin/gate/new;"
        " touch /run/jackin/secrets/new && echo kept; id -G; ulimit -n; ulimit -c",
    )
    assert "written" in said
    assert "kept" in said
    assert said.count("Read-only file system") == 2
    assert "1000 2001 2002" in said
    assert said.rstrip().endswith("\n0")
    assert (pathlib.Path(spec.staging.mounts[0].staged) / "new").stat().st_uid == BASE + 1000
