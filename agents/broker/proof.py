"""Linking an account by its own password: the account is looked at, the PAM process is asked, the link is written."""

from __future__ import annotations

import logging
import time
from typing import Any

from agents.broker import accounts, wire
from agents.broker.config import Config
from agents.broker.owner import SECONDS_TO_LOOK
from agents.broker.protocol import Refusal, Request

log = logging.getLogger(__name__)

SECONDS_TO_PROVE = 9.0  # of the request's 12


def link(request: Request, config: Config, *, until: float) -> dict[str, Any]:
    """The new link. An unknown or refused account answers what a wrong password does, and as late. Raises Refusal."""
    allowed = True
    try:
        accounts.resolve(request.account, config, until=until)
    except Refusal as refusal:
        if refusal.code != "account-refused":
            raise
        log.info("link_with_password %s: %s", request.web_user, refusal)
        allowed = False
    _prove(request, config, allowed=allowed)
    again = time.monotonic() + SECONDS_TO_LOOK
    return accounts.link(request.web_user, request.account, config, how="pam", until=again, alone=True)


def _prove(request: Request, config: Config, *, allowed: bool) -> None:
    question = {"web_user": request.web_user, "account": request.account, "password": request.password, "ask": allowed}
    try:
        reply = wire.call(config.pam_socket, question, timeout=SECONDS_TO_PROVE)
    except OSError as error:
        log.warning("the PAM process does not answer: %s", type(error).__name__)
        raise Refusal("pam-away", web_user=request.web_user) from None
    match reply.get("answer"):
        case "right":
            return
        case "wrong":
            raise Refusal("not-proven")
        case "expired":
            raise Refusal("account-expired", account=request.account)
        case "limit":
            raise Refusal("too-many-tries", minutes=-(-int(reply["seconds"]) // 60))
    raise Refusal("pam-away", web_user=request.web_user)
