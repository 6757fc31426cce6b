"""A container's life: pre- and post-states, idempotence and errors of each method."""

from __future__ import annotations

import concurrent.futures
import dataclasses

import pytest

from agents.engine.errors import Conflict, NotFound
from agents.engine.types import LABEL_AGENT, LABEL_INSTANCE, LABEL_OPERATION
from tests.support.engine_kit import Kit, wait_for


def test_info_tells_what_the_engine_is(kit: Kit) -> None:
    info = kit.engine.info()
    assert info.version
    assert float(info.api_version) >= 1.40
    assert info.remapped
    assert info.cpus >= 1
    assert info.memory > 10**8


def test_create_leaves_it_not_started_with_its_labels(kit: Kit) -> None:
    spec = kit.launch_spec()
    made = kit.engine.create_container(spec)
    found = kit.engine.container(spec.name)
    assert found is not None
    assert (found.id, found.name, found.status, found.pid, found.exit_code) == (made, spec.name, "created", 0, None)
    assert found.labels[LABEL_AGENT] == spec.agent
    assert found.labels[LABEL_OPERATION] == spec.operation
    assert found.labels[LABEL_INSTANCE]


def test_create_again_for_the_same_operation_returns_the_same(kit: Kit) -> None:
    spec = kit.launch_spec()
    assert kit.engine.create_container(spec) == kit.engine.create_container(spec)
    assert len(kit.engine.containers()) == 1


def test_create_for_another_operation_is_a_conflict(kit: Kit) -> None:
    kit.engine.create_container(kit.launch_spec())
    with pytest.raises(Conflict, match="one"):
        kit.engine.create_container(kit.launch_spec(operation="op-2", agent=_agent_of(kit)))


def _agent_of(kit: Kit) -> str:
    return kit.engine.containers()[0].labels[LABEL_AGENT]


def test_create_without_its_image_says_which(kit: Kit) -> None:
    with pytest.raises(NotFound, match="jackin/never-built"):
        kit.engine.create_container(kit.launch_spec(image="jackin/never-built:1"))
    assert kit.engine.containers() == []


def test_create_without_its_network_leaves_nothing_running(kit: Kit) -> None:
    spec = kit.launch_spec()
    kit.engine.remove_network(spec.network)
    with pytest.raises(NotFound, match=spec.network):
        kit.engine.start(kit.engine.create_container(spec))


def test_start_runs_it_and_may_be_repeated(kit: Kit) -> None:
    made = kit.engine.create_container(kit.launch_spec())
    first = kit.engine.start(made)
    assert first.status == "running"
    assert first.pid > 0
    again = kit.engine.start(made)
    assert (again.status, again.pid) == ("running", first.pid)


def test_it_ends_with_its_program_and_keeps_the_exit_code(kit: Kit) -> None:
    spec = kit.launch_spec(script="exit 7")
    made = kit.engine.create_container(spec)
    kit.engine.start(made)
    kit.open_gate(spec)
    if not kit.live:
        kit.engine.exits(made, code=7)  # type: ignore[attr-defined]
    wait_for("the end", lambda: _status(kit, made) == "exited")
    found = kit.engine.container(made)
    assert found is not None
    assert (found.exit_code, found.pid) == (7, 0)


def _status(kit: Kit, container: str) -> str:
    found = kit.engine.container(container)
    return found.status if found else "gone"


def test_stop_ends_it_and_may_be_repeated(kit: Kit) -> None:
    spec = kit.launch_spec()
    made = kit.engine.create_container(spec)
    kit.engine.start(made)
    kit.open_gate(spec)
    for _ in range(2):
        kit.engine.stop(made, grace=1)
        assert _status(kit, made) == "exited"
    kit.engine.remove_container(made)
    kit.engine.stop(made, grace=1)


def test_stop_of_what_never_ran_is_fine(kit: Kit) -> None:
    made = kit.engine.create_container(kit.launch_spec())
    kit.engine.stop(made, grace=1)
    assert _status(kit, made) in ("created", "exited")


@pytest.mark.parametrize("running", [False, True])
def test_remove_takes_it_away_running_or_not(kit: Kit, running: bool) -> None:
    made = kit.engine.create_container(kit.launch_spec())
    if running:
        kit.engine.start(made)
    for _ in range(2):
        kit.engine.remove_container(made)
        assert kit.engine.container(made) is None
    assert kit.engine.containers() == []


def test_what_does_not_exist_is_not_found(kit: Kit) -> None:
    for name in ("f" * 64, "never-made", ""):
        assert kit.engine.container(name) is None
        with pytest.raises(NotFound):
            kit.engine.start(name)
        with pytest.raises(NotFound):
            kit.engine.resize(name, rows=10, columns=10)
        with pytest.raises(NotFound):
            kit.engine.attach(name)
        assert kit.engine.logs(name, most=100) == b""
        kit.engine.stop(name, grace=1)
        kit.engine.remove_container(name)


def test_containers_of_others_do_not_exist_and_are_left_alone(kit: Kit) -> None:
    other = kit.add_foreign_container()
    assert kit.engine.container(other) is None
    assert kit.engine.containers() == []
    for touch in (kit.engine.start, kit.engine.attach):
        with pytest.raises(NotFound):
            touch(other)
    with pytest.raises(Conflict):
        kit.engine.stop(other, grace=1)
    with pytest.raises(Conflict):
        kit.engine.remove_container(other)


def test_names_of_others_are_a_conflict(kit: Kit) -> None:
    other = kit.add_foreign_container()
    name = _name_of_foreign(kit, other)
    with pytest.raises(Conflict, match=name):
        kit.engine.create_container(dataclasses.replace(kit.launch_spec("mine"), name=name))


def _name_of_foreign(kit: Kit, other: str) -> str:
    if kit.live:
        found = kit.others.container(other)  # type: ignore[attr-defined]
        assert found is not None
        return str(found.name)
    return "somebody-else"


def test_resize_of_what_does_not_run_does_nothing(kit: Kit) -> None:
    made = kit.engine.create_container(kit.launch_spec())
    kit.engine.resize(made, rows=20, columns=80)
    assert _status(kit, made) == "created"
    kit.engine.start(made)
    kit.engine.resize(made, rows=20, columns=80)
    kit.engine.stop(made, grace=1)
    kit.engine.resize(made, rows=20, columns=80)


def test_many_threads_may_ask_at_once(kit: Kit) -> None:
    specs = [kit.launch_spec(f"t{number}") for number in range(6)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        made = list(pool.map(kit.engine.create_container, specs))
        seen = list(pool.map(lambda _: {found.id for found in kit.engine.containers()}, range(6)))
        list(pool.map(kit.engine.remove_container, made))
    assert seen == [set(made)] * 6
    assert kit.engine.containers() == []


def test_one_name_asked_for_by_two_threads_is_made_once(kit: Kit) -> None:
    spec = kit.launch_spec()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        made = set(pool.map(lambda _: kit.engine.create_container(spec), range(4)))
    assert {found.id for found in kit.engine.containers()} == made
    assert len(made) == 1
