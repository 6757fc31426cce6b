"""Which web user may act as which Unix account: root's side of the broker's list, mirrored into the database."""

from __future__ import annotations

from typing import Any

from agents.broker import wire
from agents.host.instance import Instance
from agents.host.management import Django
from agents.host.shell import HostError

SECONDS = 10.0


def ask(instance: Instance, op: str, **arguments: Any) -> dict[str, Any]:
    """One request to the broker as root. Raises HostError with its own words."""
    try:
        reply = wire.call(instance.broker_socket, {"v": 1, "op": op, **arguments}, timeout=SECONDS)
    except OSError as error:
        raise HostError(
            f"The broker does not answer at {instance.broker_socket} ({error}).",
            remedy="Start the service first: ./scripts/serve",
        ) from error
    if not reply.get("ok"):
        raise HostError(str(reply.get("message", "The broker refused.")), remedy=str(reply.get("remedy", "")))
    return reply


def link(django: Django, web_user: str, account: str) -> str:
    """Link and mirror; returns what the mirroring said, names without a web account among it."""
    ask(django.settings.instance, "link", web_user=web_user, account=account)
    return django.manage("mirror_links")


def unlink(django: Django, web_user: str) -> None:
    """Unlink and mirror."""
    ask(django.settings.instance, "unlink", web_user=web_user)
    django.manage("mirror_links")


def links(instance: Instance) -> list[dict[str, Any]]:
    """All links."""
    return list(ask(instance, "links").get("links", []))
