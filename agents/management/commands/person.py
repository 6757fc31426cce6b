"""`manage.py person …`: web accounts, for root: add, invite, reset, switch off and on, delete, list."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from agents.engine.errors import EngineError
from agents.operations import accounts, links, people
from agents.operations.engines import build_engines
from agents.operations.errors import OperationError
from agents.operations.invitations import Link
from agents.operations.people import ROOT
from agents.operations.text import visible

NAMED = {
    "add": "add an account and print a one-time password (works once, for one hour)",
    "invite": "add an account, or take one that nobody has used, and print an invitation link (7 days)",
    "reset": "print a link for a new password (works once, for one hour)",
    "disable": "switch an account off; its sessions and agents end",
    "enable": "switch it on again",
    "delete": "delete an account for good; its agents end, its name stays taken",
}


class Command(BaseCommand):
    help = "Web accounts, for root. Exit codes: 0 done, 1 refused or not there, 2 wrong usage."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        for name, words in NAMED.items():
            action = actions.add_parser(name, help=words, description=words)
            action.add_argument("username")
            if name in ("add", "invite", "reset", "enable"):
                action.add_argument(
                    "--insecure-http", action="store_true", help="accept several people over plain HTTP"
                )
            if name == "delete":
                action.add_argument("--yes", action="store_true", help="really")
                action.add_argument("--purge", action="store_true", help="purge their states and snapshots, too")
        actions.add_parser("list", help="show all accounts", description="show all accounts")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except OperationError as error:
            raise CommandError(visible(f"{error.message} {error.remedy}".strip())) from None

    def _add(self, options: dict[str, Any]) -> None:
        self.stdout.write(accounts.add_person(options["username"], insecure_http=_accepted(options)))

    def _invite(self, options: dict[str, Any]) -> None:
        name, insecure = options["username"], _accepted(options)
        there = people.people(ROOT).filter(username=name, deleted_at=None).first()
        if there is None:
            self._show(people.add_person(ROOT, name, insecure_http=insecure))
        elif there.last_login is None and not there.has_usable_password():
            self._show(people.make_link(ROOT, name, insecure_http=insecure))
        else:
            raise CommandError(f"{visible(name)} has a password already; see: manage.py person reset")

    def _reset(self, options: dict[str, Any]) -> None:
        self._show(people.make_link(ROOT, options["username"], insecure_http=_accepted(options)))

    def _disable(self, options: dict[str, Any]) -> None:
        ended = people.disable(ROOT, options["username"])
        self.stdout.write(f"{options['username']} is switched off; agents that end: {ended}")

    def _enable(self, options: dict[str, Any]) -> None:
        people.enable(ROOT, options["username"], insecure_http=_accepted(options))
        self.stdout.write(f"{options['username']} may log in again")

    def _delete(self, options: dict[str, Any]) -> None:
        if not options["yes"]:
            raise CommandError("This cannot be undone: say --yes.", returncode=2)
        name = options["username"]
        problems = people.delete(ROOT, name, typed=name, purge=options["purge"])
        try:
            links.follow(build_engines())
        except EngineError as error:
            problems.append(f"The Unix account is taken away within a minute ({error.message}).")
        for problem in problems:
            self.stderr.write(visible(problem))
        self.stdout.write(f"{name} is deleted")

    def _list(self, options: dict[str, Any]) -> None:
        for one in people.people(ROOT):
            state = "deleted" if one.deleted_at else "active" if one.is_active else "off"
            role = "administrator" if one.is_superuser else "operator"
            account = one.host_account.account if hasattr(one, "host_account") else "-"
            self.stdout.write("\t".join((one.username, state, role, visible(account), str(getattr(one, "running", 0)))))

    def _show(self, link: Link) -> None:
        scheme = "https" if settings.JACKIN_TLS else "http"
        self.stdout.write(f"{scheme}://localhost:{settings.JACKIN_PORT}/invitation#{link.secret}")
        self.stderr.write(f"good until {link.expires_at:%Y-%m-%d %H:%M} UTC, once; shown only now")


def _accepted(options: dict[str, Any]) -> bool:
    return bool(options["insecure_http"] or settings.JACKIN_INSECURE_HTTP)
