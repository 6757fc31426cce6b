"""Another person's agent answers nothing but 404; the terminal's websocket is refused before it opens."""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Iterator

import pytest

from tests.support.agents import address_of, execute, privileged_ones
from tests.support.fixtures import Person
from tests.support.machine import run
from tests.support.service import Service, wait_for
from tests.support.web import WebClient


def client(service: Service, person: Person | None) -> WebClient:
    """A session of `person`, or of a stranger."""
    found = WebClient(service)
    if person is not None:
        found.log_in(person.name, person.password)
    return found


@pytest.fixture(scope="module")
def agent(service: Service, owner: Person) -> Iterator[str]:
    """A running agent of alice's; its key."""
    path = owner.home / "private-project"
    run("install", "-d", "-o", owner.account, "-g", owner.account, "-m", "0700", str(path))
    web = client(service, owner)
    key = web.launch([(str(path), "/workspace/private", "rw")])
    yield key
    web.eject(key)


def handshake(service: Service, key: str, *, cookie: str | None, origin: str | None) -> int:
    """Status code of a websocket handshake for the terminal of `key`; 101 means that it opened."""
    lines = [
        f"GET /ws/agents/{key}/terminal HTTP/1.1",
        f"Host: 127.0.0.1:{service.instance.port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
    ]
    if origin is not None:
        lines.append(f"Origin: {origin}")
    if cookie is not None:
        lines.append(f"Cookie: {cookie}")
    with socket.create_connection(("127.0.0.1", service.instance.port), timeout=10) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return int(connection.recv(4096).split(b" ")[1])


def cookie_of(web: WebClient) -> str:
    """The session's Cookie header."""
    return "; ".join(f"{name}={value}" for name, value in web.http.cookies.get_dict().items())


def test_the_owner_is_let_in(service: Service, owner: Person, agent: str) -> None:
    assert handshake(service, agent, cookie=cookie_of(client(service, owner)), origin=service.url) == 101


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "https://127.0.0.1:{port}",
        "http://localhost:{port}",
        "http://evil.test",
    ],
)
def test_a_wrong_origin_is_refused(service: Service, owner: Person, agent: str, origin: str | None) -> None:
    sent = origin.format(port=service.instance.port) if origin else None
    assert handshake(service, agent, cookie=cookie_of(client(service, owner)), origin=sent) == 403


def test_without_login_or_for_a_colleague_it_is_refused(service: Service, colleague: Person, agent: str) -> None:
    assert handshake(service, agent, cookie=None, origin=service.url) == 403
    assert handshake(service, agent, cookie="sessionid=forged", origin=service.url) == 403
    assert handshake(service, agent, cookie=cookie_of(client(service, colleague)), origin=service.url) == 403


def test_a_colleague_gets_404_everywhere(service: Service, owner: Person, colleague: Person, agent: str) -> None:
    web = client(service, colleague)
    for path in (f"/agents/{agent}", f"/agents/{agent}/eject", f"/agents/{agent}?part=head"):
        assert web.get(path).status_code == 404, path
    assert web.post(f"/agents/{agent}/eject", {}, page="/launch").status_code == 404
    assert client(service, owner).state(agent) == "Running"


def test_a_stranger_is_sent_to_the_login(service: Service, agent: str) -> None:
    stranger = client(service, None)
    for path in ("/", "/launch", "/operations", f"/agents/{agent}", f"/agents/{agent}/eject", "/admin/"):
        answer = stranger.get(path)
        assert "/login" in answer.url, path
        assert agent not in answer.text.replace(path, "")


def test_two_agents_exchange_no_byte(service: Service, owner: Person, colleague: Person, agent: str) -> None:
    path = colleague.home / "own-project"
    run("install", "-d", "-o", colleague.account, "-g", colleague.account, "-m", "0700", str(path))
    web = client(service, colleague)
    other = web.launch([(str(path), "/workspace/own", "rw")])
    try:
        _no_byte_between(service, agent, other)
    finally:
        web.eject(other)


def _no_byte_between(service: Service, first: str, second: str) -> None:
    """Listen in the first agent, connect from the second to each of its addresses: the listener hears nothing."""
    assert privileged_ones(service.instance) == []
    listener = (
        "import socket,sys\ns=socket.create_server(('0.0.0.0',7777))\nopen('/tmp/listening','w')\n"
        "s.settimeout(60)\nc,_=s.accept()\nopen('/tmp/heard','wb').write(c.recv(10) or b'connected')\n"
    )
    execute(service.instance, first, "python3", "-c", listener, detach=True)
    wait_for("the listener", lambda: execute(service.instance, first, "ls", "/tmp").find("listening") >= 0)
    target = address_of(service.instance, first)
    connect = f"s.connect(('{target}',7777)); s.send(b'hello')"
    talk = f"import socket\ns=socket.socket()\ns.settimeout(3)\ntry:\n {connect}\nexcept OSError: pass\n"
    execute(service.instance, second, "python3", "-c", talk)
    assert "heard" not in execute(service.instance, first, "ls", "/tmp")
    # the listener was alive all the time: the agent itself reaches it
    execute(service.instance, first, "python3", "-c", talk)
    wait_for("the listener to hear itself", lambda: "heard" in execute(service.instance, first, "ls", "/tmp"))
