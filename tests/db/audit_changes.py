"""Every kind of change that operations make to rows: how it is prepared, and the change itself."""

from __future__ import annotations

from collections.abc import Callable

from agents.engine.errors import BrokerRefused, EngineUnreachable
from agents.engine.types import AccountLink
from agents.models import Agent, AgentState, OperationLog, StateSnapshot, User
from agents.operations import (
    accounts,
    exile,
    invitations,
    launch,
    lifecycle,
    links,
    people,
    purging,
    reconcile,
    retention,
    retrying,
    snapshot_sweep,
    snapshots,
)
from agents.operations.ejecting import exile_here
from agents.operations.exile import Scope
from agents.operations.people import ROOT
from tests import factories
from tests.db.conftest import World

Change = Callable[[World, User], Callable[[], object]]


def running(world: World, alice: User) -> Agent:
    launch.request_launch(alice, factories.launch_request())
    assert world.work().state == "succeeded"
    return Agent.objects.get()


def _launch(world: World, alice: User) -> Callable[[], object]:
    return lambda: launch.request_launch(alice, factories.launch_request())


def _run_launch(world: World, alice: User) -> Callable[[], object]:
    launch.request_launch(alice, factories.launch_request())
    return world.work


def _fail_launch(world: World, alice: User) -> Callable[[], object]:
    launch.request_launch(alice, factories.launch_request())
    world.engine.errors["start"] = EngineUnreachable("away")
    return world.work


def _retry(world: World, alice: User) -> Callable[[], object]:
    failed = _fail_launch(world, alice)()
    return lambda: retrying.request_retry(alice, failed.pk)  # type: ignore[attr-defined]


def _cancel(world: World, alice: User) -> Callable[[], object]:
    queued = launch.request_launch(alice, factories.launch_request())
    return lambda: lifecycle.request_cancel(alice, queued.pk)


def _cancel_running(world: World, alice: User) -> Callable[[], object]:
    under_way = factories.launch(alice, state="running", lease_owner="1.1.x")
    return lambda: lifecycle.request_cancel(alice, under_way.pk)


def _eject(world: World, alice: User) -> Callable[[], object]:
    agent = running(world, alice)
    return lambda: lifecycle.request_eject(alice, agent.key)


def _run_eject(world: World, alice: User) -> Callable[[], object]:
    _eject(world, alice)()
    return world.work


def _exile(world: World, alice: User) -> Callable[[], object]:
    running(world, alice)
    return lambda: exile.request_exile(alice, scope=Scope.OWN)


def _run_exile(world: World, alice: User) -> Callable[[], object]:
    _exile(world, alice)()
    return world.work


def _exile_here(world: World, alice: User) -> Callable[[], object]:
    running(world, alice)
    return lambda: exile_here(world.engines, streams=world.streams, scope=Scope.EVERYONE)


def _reconcile(world: World, alice: User) -> Callable[[], object]:
    running(world, alice)
    world.end(world.engine.target.containers()[0].id)
    return lambda: reconcile.reconcile(world.engines, streams=world.streams)


def _forget(world: World, alice: User) -> Callable[[], object]:
    agent = factories.agent(alice, state="failed")
    old = factories.launch(alice, agent=agent, state="failed", finished_at="2020-01-01T00:00:00Z")
    OperationLog.objects.create(operation=old, text="old")
    return retention.forget_old


def _link(world: World, alice: User) -> Callable[[], object]:
    link = AccountLink(web_user="alice", account="a", uid=1001, linked_at="2026-01-01T00:00:00+00:00", how="test")
    return lambda: links.mirror([link])


def _unlink(world: World, alice: User) -> Callable[[], object]:
    _link(world, alice)()
    return lambda: links.mirror([])


def _one_time(world: World, alice: User) -> Callable[[], object]:
    password = accounts.renew_one_time_password("alice")
    backend = accounts.OneTimeAwareBackend()
    return lambda: backend.authenticate(None, username="alice", password=password)


def _state(world: World, alice: User) -> AgentState:
    state = factories.state(alice)
    world.broker.target.states["alice", state.key] = b"content"
    return state


def _snapshot(world: World, alice: User) -> Callable[[], object]:
    state = _state(world, alice)
    return lambda: snapshots.request_snapshot(alice, state.key)


def _run_snapshot(world: World, alice: User) -> Callable[[], object]:
    _snapshot(world, alice)()
    return world.work


def _taken(world: World, alice: User) -> StateSnapshot:
    _run_snapshot(world, alice)()
    return StateSnapshot.objects.get()


def _restore(world: World, alice: User) -> Callable[[], object]:
    taken = _taken(world, alice)
    return lambda: snapshots.request_restore(alice, taken.key)


def _run_restore(world: World, alice: User) -> Callable[[], object]:
    _restore(world, alice)()
    return world.work


def _refused_restore(world: World, alice: User) -> Callable[[], object]:
    world.broker.errors["restore"] = BrokerRefused("no", code="tar-refused")
    return _run_restore(world, alice)


def _refused_replacement(world: World, alice: User) -> Callable[[], object]:
    taken = _taken(world, alice)
    world.broker.errors["restore"] = BrokerRefused("no", code="tar-refused")
    snapshots.request_restore(alice, taken.key, into=taken.state_key)
    return world.work


def _sweep_snapshots(world: World, alice: User) -> Callable[[], object]:
    factories.snapshot(factories.state(alice), phase=StateSnapshot.Phase.MAKING)
    return lambda: snapshot_sweep.sweep(world.engines)


def _purge(world: World, alice: User) -> Callable[[], object]:
    state = _state(world, alice)
    return lambda: purging.request_purge(alice, states=[state.key])


def _run_purge(world: World, alice: User) -> Callable[[], object]:
    _purge(world, alice)()
    return world.work


def _purge_snapshot(world: World, alice: User) -> Callable[[], object]:
    taken = _taken(world, alice)
    return lambda: purging.request_purge(alice, snapshots=[taken.key])


def _run_purge_snapshot(world: World, alice: User) -> Callable[[], object]:
    _purge_snapshot(world, alice)()
    return world.work


def _disable(world: World, alice: User) -> Callable[[], object]:
    running(world, alice)
    return lambda: people.disable(ROOT, "alice")


def _disable_while_it_launches(world: World, alice: User) -> Callable[[], object]:
    factories.launch(alice, state="running", lease_owner="1.1.x")
    return lambda: people.disable(ROOT, "alice")


def _enable(world: World, alice: User) -> Callable[[], object]:
    people.disable(ROOT, "alice")
    return lambda: people.enable(ROOT, "alice", insecure_http=True)


def _use_link(world: World, alice: User) -> Callable[[], object]:
    link = people.add_person(ROOT, "dave", insecure_http=True)
    return lambda: invitations.use(link.secret, password="a good long one of dave's", came_from="here")


CHANGES: dict[str, Change] = {
    "invite": lambda world, alice: lambda: people.add_person(ROOT, "dave", insecure_http=True),
    "use of a link": _use_link,
    "disable": _disable,
    "disable while a launch runs": _disable_while_it_launches,
    "enable": _enable,
    "delete": lambda world, alice: lambda: people.delete(ROOT, "alice", typed="alice", purge=False),
    "administrator": lambda world, alice: lambda: people.set_administrator(ROOT, "alice", wanted=True),
    "purge": _purge,
    "run purge": _run_purge,
    "purge of a snapshot": _purge_snapshot,
    "run purge of a snapshot": _run_purge_snapshot,
    "snapshot": _snapshot,
    "run snapshot": _run_snapshot,
    "restore": _restore,
    "run restore": _run_restore,
    "run refused restore": _refused_restore,
    "run refused replacement": _refused_replacement,
    "sweep snapshots": _sweep_snapshots,
    "launch": _launch,
    "run launch": _run_launch,
    "fail launch": _fail_launch,
    "retry": _retry,
    "cancel": _cancel,
    "cancel running": _cancel_running,
    "eject": _eject,
    "run eject": _run_eject,
    "exile": _exile,
    "run exile": _run_exile,
    "exile here": _exile_here,
    "reconcile": _reconcile,
    "forget": _forget,
    "link": _link,
    "unlink": _unlink,
    "one-time password": _one_time,
    "first administrator": lambda world, alice: lambda: accounts.first_administrator("root", password="p"),
    "add person": lambda world, alice: lambda: accounts.add_person("dave", insecure_http=True),
    "renew one-time password": lambda world, alice: lambda: accounts.renew_one_time_password("alice"),
    "change password": lambda world, alice: (
        lambda: accounts.change_password(alice, new="another good long one", old=factories.PASSWORD)
    ),
}
