"""What each request does; runs in a worker process of its own and may take seconds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from agents.broker import accounts, admit, archive, deleting, listing, measuring, mounts, proof, record, states
from agents.broker.config import Config
from agents.broker.protocol import Refusal, Request

log = logging.getLogger(__name__)

Reply = dict[str, Any]
SECONDS_FOR_A_TREE = 6.0  # counting or deleting: a large one takes several requests


def perform(request: Request, config: Config, *, until: float) -> Reply:
    """The reply to `request`, which looks at accounts and paths until the time `until` (monotonic) at most.

    Never raises: what nobody expected becomes `internal`, its reason goes to the log.
    """
    try:
        return HANDLERS[request.op](request, config, until)
    except Refusal as refusal:
        log.info("%s %s: refused, %s", request.op, request.launch or request.web_user, refusal)
        return refusal.reply()
    except Exception:
        log.exception("%s %s failed", request.op, request.launch or request.web_user)
        return Refusal("internal", what=request.op).reply()


def _identity(request: Request, config: Config, until: float) -> Reply:
    found = accounts.identity(request.web_user, config, until=until)
    return {
        "ok": True,
        "account": found.account,
        "uid": found.uid,
        "gid": found.gid,
        "home": found.home,
        "groups": [name for _, name in found.allowed],
    }


def _links(request: Request, config: Config, _until: float) -> Reply:
    return {"ok": True, "links": accounts.read_links(config)}


def _link(request: Request, config: Config, until: float) -> Reply:
    return {"ok": True, "link": accounts.link(request.web_user, request.account, config, how="root", until=until)}


def _link_with_password(request: Request, config: Config, until: float) -> Reply:
    return {"ok": True, "link": proof.link(request, config, until=until)}


def _unlink(request: Request, config: Config, _until: float) -> Reply:
    return {"ok": True, "removed": accounts.unlink(request.web_user, config)}


def _check(request: Request, config: Config, until: float) -> Reply:
    identity = accounts.identity(request.web_user, config, until=until)
    return {"ok": True, "results": mounts.check(request.mounts, identity, config, until=until)}


def _list(request: Request, config: Config, until: float) -> Reply:
    identity = accounts.identity(request.web_user, config, until=until)
    return listing.names(request.path, prefix=request.prefix, most=request.most, identity=identity, until=until)


def _stage(request: Request, config: Config, until: float) -> Reply:
    identity = accounts.identity(request.web_user, config, until=until)
    return mounts.stage(
        request.web_user, request.launch, request.mounts, identity, config, until=until, state=request.state
    ).told()


def _admit(request: Request, config: Config, _until: float) -> Reply:
    admit.admit(request.launch, pid=request.pid, secrets=dict(request.secrets), config=config)
    return {"ok": True}


def _release(request: Request, config: Config, _until: float) -> Reply:
    mounts.release(request.launch, config)
    return {"ok": True}


def _staged(request: Request, config: Config, _until: float) -> Reply:
    return {"ok": True, "launches": record.staged(config)}


def _forget_first_password(request: Request, config: Config, _until: float) -> Reply:
    config.first_password_file.unlink(missing_ok=True)
    return {"ok": True}


def _make_state(request: Request, config: Config, until: float) -> Reply:
    identity = accounts.identity(request.web_user, config, until=until)
    return {"ok": True, "made": states.make(config, identity, request.state)}


def _measure_state(request: Request, config: Config, _until: float) -> Reply:
    return {"ok": True, **measuring.measure(config, request.state, until=time.monotonic() + SECONDS_FOR_A_TREE)}


def _list_states(_request: Request, config: Config, _until: float) -> Reply:
    return {"ok": True, "states": states.listed(config), "trash": sorted(states.trashed(config))}


def _purge_state(request: Request, config: Config, _until: float) -> Reply:
    return {"ok": True, **deleting.purge(config, request.state, until=time.monotonic() + SECONDS_FOR_A_TREE)}


HANDLERS: Mapping[str, Callable[[Request, Config, float], Reply]] = {
    "identity": _identity,
    "links": _links,
    "link": _link,
    "link_with_password": _link_with_password,
    "unlink": _unlink,
    "check": _check,
    "list": _list,
    "stage": _stage,
    "admit": _admit,
    "release": _release,
    "staged": _staged,
    "archive": archive.archive,
    "restore": archive.restore,
    "forget_first_password": _forget_first_password,
    "make_state": _make_state,
    "measure_state": _measure_state,
    "list_states": _list_states,
    "purge_state": _purge_state,
}
