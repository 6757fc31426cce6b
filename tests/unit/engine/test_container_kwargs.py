"""The policy of an agent's container, as the pure function that decides it."""

from __future__ import annotations

import dataclasses
import inspect
import json

import pytest

from agents.engine.api import GATE_DIR, SECRETS_DIR
from agents.engine.containers import container_kwargs
from agents.engine.types import LaunchSpec, Limits, StagedMount
from tests.support.engine_kit import FakeKit


@pytest.fixture
def spec() -> LaunchSpec:
    return FakeKit().launch_spec(limits=Limits(cpus=1.5, memory=2**31, pids=300))


def test_it_is_never_privileged(spec: LaunchSpec) -> None:
    told = container_kwargs(spec, instance="test")
    assert told["privileged"] is False
    assert told["devices"] == []
    assert told["security_opt"] == []
    forbidden = {"pid_mode", "userns_mode", "uts_mode", "device_requests", "device_cgroup_rules", "volumes", "ports"}
    assert not forbidden & told.keys()


def test_capabilities_are_exactly_these(spec: LaunchSpec) -> None:
    told = container_kwargs(spec, instance="test")
    assert told["cap_drop"] == ["ALL"]
    assert sorted(told["cap_add"]) == [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "NET_BIND_SERVICE",
        "SETGID",
        "SETUID",
    ]


def test_it_runs_as_claude_with_the_mapped_groups(spec: LaunchSpec) -> None:
    told = container_kwargs(spec, instance="test")
    assert told["user"] == "1000:1000"
    assert told["group_add"] == ["2001", "2002"]


def test_nothing_of_the_image_runs_before_the_gate(spec: LaunchSpec) -> None:
    told = container_kwargs(spec, instance="test", image_names=["LD_DEBUG", "PATH", "LDAP"])
    assert told["entrypoint"] == [f"{GATE_DIR}/busybox", "sh", f"{GATE_DIR}/gate"]
    assert told["command"] == list(spec.argv)
    assert told["healthcheck"] == {"test": ["NONE"]}
    assert told["init"] is False
    assert told["working_dir"] == "/"
    bare = {entry for entry in told["environment"] if "=" not in entry}
    assert bare == {"LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "LD_DEBUG", "GLIBC_TUNABLES", "BASH_ENV", "ENV"}


def test_its_mounts_are_private_binds_of_what_was_staged(spec: LaunchSpec) -> None:
    told = {mount["Target"]: mount for mount in container_kwargs(spec, instance="test")["mounts"]}
    assert set(told) == {GATE_DIR, SECRETS_DIR, "/workspace/project", "/workspace/project/lent"}
    assert {mount["Type"] for mount in told.values()} == {"bind"}
    assert {mount["BindOptions"]["Propagation"] for mount in told.values()} == {"rprivate"}
    assert told[GATE_DIR]["ReadOnly"] is True
    assert told[SECRETS_DIR]["ReadOnly"] is False
    assert told["/workspace/project"]["ReadOnly"] is False
    assert told["/workspace/project/lent"]["ReadOnly"] is True
    assert told["/workspace/project"]["Source"] == spec.staging.mounts[0].staged


def test_a_parent_is_mounted_before_what_is_below_it(spec: LaunchSpec) -> None:
    mounts = tuple(
        StagedMount(
            source=f"/s{n}", real_path=f"/s{n}", device=1, inode=n, destination=target, mode="rw", staged=f"/stage/{n}"
        )
        for n, target in enumerate(["/workspace/a/b/c", "/workspace/a", "/workspace/a/b"])
    )
    spec = dataclasses.replace(spec, staging=dataclasses.replace(spec.staging, mounts=mounts))
    targets = [mount["Target"] for mount in container_kwargs(spec, instance="test")["mounts"]]
    assert targets[-3:] == ["/workspace/a", "/workspace/a/b", "/workspace/a/b/c"]


def test_limits(spec: LaunchSpec) -> None:
    told = container_kwargs(spec, instance="test", ceiling=20_000)
    assert told["mem_limit"] == told["memswap_limit"] == 2**31
    assert told["nano_cpus"] == 1_500_000_000
    assert told["pids_limit"] == 300
    limits = {limit["Name"]: (limit["Soft"], limit["Hard"]) for limit in told["ulimits"]}
    assert limits == {"nofile": (20_000, 20_000), "core": (0, 0)}
    assert told["log_config"].type == "local"
    assert told["log_config"].config["max-size"]
    assert told["restart_policy"] == {"Name": "no"}


def test_labels_and_terminal(spec: LaunchSpec) -> None:
    told = container_kwargs(spec, instance="test")
    assert told["labels"] == {
        "jackin.instance": "test",
        "jackin.agent": spec.agent,
        "jackin.operation": spec.operation,
    }
    assert told["tty"] is True
    assert told["stdin_open"] is True
    assert (told["ipc_mode"], told["cgroupns"]) == ("private", "private")
    assert told["network"] == spec.network


def test_the_workdir_cannot_be_set_by_the_environment(spec: LaunchSpec) -> None:
    spec = dataclasses.replace(spec, env={"JACKIN_WORKDIR": "/elsewhere", "A": "1"})
    assert container_kwargs(spec, instance="test")["environment"][-2:] == ["A=1", f"JACKIN_WORKDIR={spec.workdir}"]


def test_the_same_spec_tells_the_same(spec: LaunchSpec) -> None:
    def told() -> str:
        return json.dumps(container_kwargs(spec, instance="test"), default=str, sort_keys=True)

    assert told() == told()
    assert not inspect.isgeneratorfunction(container_kwargs)
