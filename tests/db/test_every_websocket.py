"""Every websocket of the rows, really opened by everybody: what is not theirs is closed before it opens."""

from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async

from agents.models import Agent, User
from tests import factories
from tests.db.route_rows import WEBSOCKETS, WHO
from tests.support.routes import filled
from tests.support.websockets import PATIENCE, Person, websocket

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tty")]


def who_asks(name: str, alice: User) -> bytes | None:
    """The cookie of somebody who is logged in; alice owns the agent."""
    match name:
        case "anonymous":
            return None
        case "owner":
            person = alice
        case "administrator":
            person = factories.person("root-like", is_staff=True, is_superuser=True)
        case "stranger" | "disabled" | "must change password":
            person = factories.person("other")
        case _:
            raise AssertionError(name)
    found = Person(person)
    fields = {"disabled": {"is_active": False}, "must change password": {"must_change_password": True}}
    User.objects.filter(pk=person.pk).update(**fields.get(name, {"username": person.username}))
    return found.cookie


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("route", WEBSOCKETS)
async def test_websockets(agent: Agent, alice: User, route: str, who: str) -> None:
    cookie = await sync_to_async(who_asks)(who, alice)
    connection = websocket(agent, cookie=cookie, path=f"/{filled(route, {'key': agent.key})}")
    accepted, code = await connection.connect(timeout=PATIENCE)
    assert ("ok" if accepted else str(code)) == WEBSOCKETS[route][WHO.index(who)]
    await connection.disconnect()
