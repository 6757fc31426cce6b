"""The terminal's websocket as daphne serves it: who is refused before it is accepted, and the way of the bytes."""

from __future__ import annotations

import asyncio
import json
import pathlib
import socket
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from pytest_django import Settings

from agents.engine.feed_client import FeedClient
from agents.models import Agent, AuditEvent, User
from agents.web.terminal.consumer import TerminalConsumer
from agents.web.terminal.protocol import ENDED, REFUSED, UNAVAILABLE
from tests.support.terminals import TerminalsProcess
from tests.support.websockets import HOST, ORIGIN, PATIENCE, Person, closed, control, opened, output, refused, websocket

pytestmark = pytest.mark.django_db(transaction=True)


# ── Refused before accept ────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("tty")
async def test_another_origin_is_refused(agent: Agent, owner: Person) -> None:
    """Every other kind of origin: tests/unit/terminals/test_websocket_protocol.py."""
    for origin in (None, b"null", b"http://localhost:8001", b"https://localhost:8000", b"http://evil.example:8000"):
        await refused(websocket(agent, cookie=owner.cookie, origin=origin))
    async with opened(agent, owner) as connection:
        await control(connection, "ready")


@pytest.mark.usefixtures("tty")
async def test_two_origins_or_hosts_are_refused(agent: Agent, owner: Person) -> None:
    await refused(websocket(agent, cookie=owner.cookie, extra=((b"origin", ORIGIN),)))
    await refused(websocket(agent, cookie=owner.cookie, extra=((b"host", HOST),)))


@pytest.mark.usefixtures("tty")
async def test_a_host_that_is_not_ours_is_refused_though_the_origin_is_the_same(agent: Agent, owner: Person) -> None:
    await refused(websocket(agent, cookie=owner.cookie, host=b"evil.example:8000", origin=b"http://evil.example:8000"))


@pytest.mark.usefixtures("tty")
async def test_with_tls_only_https_pages_may_open_it(agent: Agent, owner: Person, settings: Settings) -> None:
    settings.JACKIN_TLS = True
    await refused(websocket(agent, cookie=owner.cookie))
    async with opened(agent, owner, origin=b"https://localhost:8000") as connection:
        await control(connection, "ready")


@pytest.mark.usefixtures("tty")
async def test_nobody_is_refused(agent: Agent, settings: Settings) -> None:
    await refused(websocket(agent, cookie=None))
    await refused(websocket(agent, cookie=f"{settings.SESSION_COOKIE_NAME}=0123456789abcdef0123456789abcdef".encode()))


@pytest.mark.usefixtures("tty")
async def test_a_colleague_an_auditor_and_an_administrator_are_refused(
    agent: Agent, bob: User, carol: User, admin: User
) -> None:
    for user in (bob, carol, admin):
        person = await sync_to_async(Person)(user)
        await refused(websocket(agent, cookie=person.cookie))


@pytest.mark.usefixtures("tty")
async def test_a_one_time_password_opens_no_terminal(agent: Agent, owner: Person) -> None:
    await User.objects.filter(pk=owner.user.pk).aupdate(must_change_password=True)
    await refused(websocket(agent, cookie=owner.cookie))


@pytest.mark.usefixtures("tty")
async def test_an_account_that_is_switched_off_is_refused(agent: Agent, owner: Person) -> None:
    await User.objects.filter(pk=owner.user.pk).aupdate(is_active=False)
    await refused(websocket(agent, cookie=owner.cookie))


async def test_an_agent_that_does_not_exist_is_refused(owner: Person) -> None:
    await refused(websocket(Agent(key="f" * 32), cookie=owner.cookie))


async def test_without_the_terminals_process_it_is_refused(
    agent: Agent, owner: Person, settings: Settings, tmp_path: pathlib.Path
) -> None:
    settings.JACKIN_TERMINALS_SOCKET = str(tmp_path / "nobody.sock")
    await refused(websocket(agent, cookie=owner.cookie))


# ── The way of the bytes ─────────────────────────────────────────────────────────────────────────


async def test_bytes_go_both_ways(agent: Agent, owner: Person, tty: socket.socket) -> None:
    tty.sendall(b"\xc3")  # half a character before the window opens
    async with opened(agent, owner) as connection:
        assert (await control(connection, "ready"))["replay"] in (0, 1)
        await connection.send_to(bytes_data="ä\r".encode())
        assert await asyncio.to_thread(tty.recv, 100) == "ä\r".encode()
        tty.sendall(b"\xa4 answer")
        assert await output(connection, b"answer") == "ä answer".encode()
        await connection.send_to(text_data=json.dumps({"type": "ack", "bytes": 9}))
        await connection.send_to(text_data=json.dumps({"type": "resize", "rows": 50, "columns": 100}))
        await connection.send_to(bytes_data=b"still open")
        assert await asyncio.to_thread(tty.recv, 100) == b"still open"
    assert await AuditEvent.objects.filter(agent_key=agent.key, action="terminal.attach").acount() == 1


async def test_the_size_comes_with_the_address_and_later_by_message(
    agent: Agent, owner: Person, feed: FeedClient, tty: socket.socket
) -> None:
    events = feed.events()
    async with opened(agent, owner) as connection:
        first = await asyncio.to_thread(next, events)
        assert (first["rows"], first["columns"]) == (30, 90)
        await connection.send_to(text_data=json.dumps({"type": "resize", "rows": 31, "columns": 91}))
        second = await asyncio.to_thread(next, events)
        assert (second["rows"], second["columns"]) == (31, 91)


async def test_an_agent_that_ends_says_why(agent: Agent, owner: Person, feed: FeedClient, tty: socket.socket) -> None:
    async with opened(agent, owner) as connection:
        await control(connection, "ready")
        feed.drop(agent.key, "ejected by alice")
        assert (await control(connection, "ended"))["reason"] == "ejected by alice"
        assert await closed(connection) == ENDED


async def test_the_browser_is_told_to_come_again_when_terminals_restarts(
    agent: Agent, owner: Person, terminals: TerminalsProcess, tty: socket.socket
) -> None:
    async with opened(agent, owner) as connection:
        await control(connection, "ready")
        await asyncio.to_thread(terminals.stop)
        assert await closed(connection) == UNAVAILABLE
        terminals.start()


@pytest.mark.parametrize(
    "message",
    [
        {"bytes_data": bytes(64 * 1024 + 1)},
        {"text_data": "not json"},
        {"text_data": "[]"},
        {"text_data": json.dumps({"type": "resize", "rows": 0, "columns": 1})},
        {"text_data": json.dumps({"type": "attach", "key": "0" * 32})},
        {"text_data": json.dumps({"type": "ack", "bytes": 1, "more": "x" * 2000})},
        {"text_data": json.dumps({"type": "ack", "bytes": 10**9})},
    ],
)
@pytest.mark.usefixtures("tty")
async def test_what_our_page_never_sends_ends_it(agent: Agent, owner: Person, message: dict[str, Any]) -> None:
    async with opened(agent, owner) as connection:
        await control(connection, "ready")
        await connection.send_to(**message)
        assert await closed(connection) == REFUSED


@pytest.mark.usefixtures("tty")
async def test_nothing_is_left_when_it_closes(agent: Agent, owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TerminalConsumer, "check_every", 1000)
    before = asyncio.all_tasks()
    async with opened(agent, owner) as connection:
        await control(connection, "ready")
        assert asyncio.all_tasks() - before - {connection.future}, "no task of its own"
        await connection.send_input({"type": "websocket.disconnect", "code": 1001})
        await asyncio.wait_for(asyncio.shield(connection.future), PATIENCE)
        assert asyncio.all_tasks() - before == set()


async def test_input_makes_no_detour_to_the_database(
    agent: Agent, owner: Person, tty: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Channels closes old database connections before each message, by a thread: a third of the echo's time."""
    async with opened(agent, owner) as connection:
        await control(connection, "ready")

        async def forbidden() -> None:
            raise AssertionError("a detour")

        with monkeypatch.context() as patched:
            patched.setattr("channels.consumer.aclose_old_connections", forbidden)
            await connection.send_to(bytes_data=b"quick")
            assert await asyncio.to_thread(tty.recv, 100) == b"quick"
