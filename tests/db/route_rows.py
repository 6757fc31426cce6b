"""What each way into the service answers, by who asks: the rows of test_every_route.

**How to add a row.** A page: one line in PAGES, `"METHOD /address/{argument}": ANSWERS`; the arguments are those of the
address in agents/web/urls.py. Most pages are one of the named answers below. A websocket: one line in WEBSOCKETS. A
request of the runner's socket: one line in RUNNER. A function of agents.operations that takes a person (its first
argument is annotated User, Person or By): one line in OPERATIONS. An argument of an address with a new name also needs
a value in tests/support/routes.py (what leads nowhere) and in `values` of test_every_route (what alice owns).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from agents.models import MountGrant, User
from agents.operations import (
    accounts,
    exile,
    launch,
    ledger,
    lifecycle,
    links,
    people,
    proving,
    purging,
    retrying,
    selectors,
    snapshots,
    states,
    terminals,
)
from agents.operations.exile import Scope
from agents.operations.permissions import Action
from tests import factories

WHO: Final = ("anonymous", "stranger", "owner", "administrator", "must change password", "disabled")
Answers = tuple[str, str, str, str, str, str]  # in the order of WHO

# "login": sent to the login. "password": sent to the page for a new password. "ok": an answer, or sent on to a page.
# "404", "403": does not exist, is not allowed. "refused": 422 or 405 or 409, that is, looked at and not done.
EVERYBODY: Final[Answers] = ("login", "ok", "ok", "ok", "password", "login")
OPEN: Final[Answers] = ("ok", "ok", "ok", "ok", "ok", "ok")
OWN: Final[Answers] = ("login", "404", "ok", "404", "password", "login")
OWN_PASSWORD: Final[Answers] = ("login", "ok", "ok", "ok", "ok", "login")
ADMINISTRATORS: Final[Answers] = ("login", "404", "404", "ok", "password", "login")
ADMINISTRATORS_EMPTY: Final[Answers] = ("login", "404", "404", "refused", "password", "login")
INCOMPLETE: Final[Answers] = ("login", "refused", "refused", "refused", "password", "login")
RECORDS: Final[Answers] = ("login", "login", "login", "ok", "password", "login")
RECORDS_CLOSED: Final[Answers] = ("login", "login", "login", "403", "password", "login")
RECORDS_404: Final[Answers] = ("login", "login", "login", "ok", "password", "login")
NOBODY: Final[Answers] = ("login", "404", "404", "404", "password", "login")

PAGES: Final[Mapping[str, Answers]] = {
    "GET /": EVERYBODY,
    "GET /login": OPEN,
    "POST /login": OPEN,
    "POST /logout": OPEN,
    "GET /password": OWN_PASSWORD,
    "POST /password": OWN_PASSWORD,
    "GET /account": EVERYBODY,
    "POST /account/link": INCOMPLETE,
    "GET /invitation": OPEN,
    "POST /invitation": OPEN,
    "GET /launch": EVERYBODY,
    "POST /launch": EVERYBODY,  # the form again, with what is wrong
    "POST /launch/preview": EVERYBODY,
    "GET /agents/{key}": OWN,
    "GET /agents/{key}/eject": OWN,
    "POST /agents/{key}/eject": OWN,
    "GET /operations": EVERYBODY,
    "GET /operations/{operation_id}": OWN,
    "POST /operations/{operation_id}/cancel": OWN,
    "GET /operations/{operation_id}/log": OWN,
    "POST /operations/{operation_id}/retry": ("login", "404", "refused", "404", "password", "login"),  # it is open
    "GET /snapshots": EVERYBODY,
    "GET /snapshots/{key}/restore": OWN,
    "POST /snapshots/{key}/restore": OWN,
    "GET /states": EVERYBODY,
    "GET /states/purge": EVERYBODY,  # of nothing: sent back
    "POST /states/purge": EVERYBODY,
    "GET /states/purge/{key}": NOBODY,
    "GET /states/{key}": OWN,
    "POST /states/{key}/snapshot": OWN,
    "GET /exile": EVERYBODY,
    "POST /exile": ("login", "refused", "ok", "refused", "password", "login"),  # who has no agents
    "GET /exile/everyone": ADMINISTRATORS,
    "POST /exile/everyone": ADMINISTRATORS_EMPTY,
    "GET /exile/of/{name}": ADMINISTRATORS,
    "POST /exile/of/{name}": ADMINISTRATORS_EMPTY,
    "GET /people": ADMINISTRATORS,
    "GET /people/add": ADMINISTRATORS,
    "POST /people/add": ADMINISTRATORS,  # the form again, as below
    "GET /person/{username}": ADMINISTRATORS,
    "POST /person/{username}/link": ADMINISTRATORS,
    "POST /person/{username}/enable": ADMINISTRATORS_EMPTY,  # switched on already
    "GET /person/{username}/disable": ADMINISTRATORS,
    "POST /person/{username}/disable": ADMINISTRATORS,
    "GET /person/{username}/delete": ADMINISTRATORS,
    "POST /person/{username}/delete": ADMINISTRATORS,
    "POST /person/{username}/administrator": ADMINISTRATORS_EMPTY,  # none already
    "GET /admin/": RECORDS,
    "POST /admin/agents/mountgrant/export/": RECORDS_404,
    "GET /admin/login/": ("login", "403", "403", "403", "password", "login"),
    "POST /admin/logout/": ("ok", "ok", "ok", "ok", "password", "ok"),
    "GET /admin/password_change/": EVERYBODY,
    "POST /admin/password_change/": EVERYBODY,
}

# The records of the admin: a list and each row to look at; the rest is refused to everybody, see test_admin.
RECORD_PAGES: Final[Mapping[str, Answers]] = {
    "GET {list}": RECORDS,
    "GET {list}add/": RECORDS_CLOSED,
    "POST {list}add/": RECORDS_CLOSED,
    "GET {list}{object_id}/change/": RECORDS,
    "POST {list}{object_id}/change/": RECORDS,
    "GET {list}{object_id}/delete/": RECORDS,
    "POST {list}{object_id}/delete/": RECORDS,
    "GET {list}{object_id}/history/": RECORDS,
}
ADMIN_OTHERS: Final = (
    "/admin/{app_label}/",
    "/admin/autocomplete/",
    "/admin/jsi18n/",
    "/admin/password_change/done/",
    "/admin/r/{content_type_id}/{object_id}/",
    "/admin/{url}",
)

WEBSOCKETS: Final[Mapping[str, Answers]] = {
    "ws/agents/{key}/terminal": ("4401", "4404", "ok", "4404", "4401", "4401"),
}

# op → the request for alice's things, and what each person who asks for themselves gets: the runner looks at the rows.
Ask = Callable[[str], dict[str, Any]]
RUNNER: Final[Mapping[str, tuple[Ask, Answers]]] = {
    "wake": (lambda name: {}, OPEN),  # says only: look for work
    "follow": (lambda name: {}, OPEN),  # says only: look at people
    "engine_status": (lambda name: {}, OPEN),
    "first_login": (lambda name: {}, OPEN),  # removes a file whose content is worthless by then
    "check_mounts": (
        lambda name: {"user": name, "mounts": [vars(factories.mount())]},
        ("refused", "ok", "ok", "ok", "refused", "refused"),
    ),
    "link_account": (
        lambda name: {"user": name, "account": "alice-unix", "password": "the password"},
        ("refused", "ok", "ok", "ok", "refused", "refused"),
    ),
}

PERSON: Final[Answers] = ("403", "ok", "ok", "ok", "403", "403")
OWNER: Final[Answers] = ("404", "404", "ok", "404", "404", "404")
ADMINISTRATOR: Final[Answers] = ("403", "404", "404", "ok", "404", "404")
NOTHING_SHOWN: Final[Answers] = ("ok", "ok", "ok", "ok", "ok", "ok")  # gives a person only what is theirs
INSIDE: Final = None  # is called by other operations, after they have checked: no way in

# A call as `who`, about alice's agent, operation and account.
Call = Callable[[Any, Any], object]
OPERATIONS: Final[Mapping[str, tuple[Call, Answers] | None]] = {
    "accounts.change_password": (
        lambda who, a: accounts.change_password(who, new="a quite different sentence", old=factories.PASSWORD),
        ("403", "ok", "ok", "ok", "ok", "403"),
    ),
    "invitations.make": INSIDE,
    "ledger.export": (
        lambda who, a: list(ledger.export(who, grants=MountGrant.objects.all(), asked="")),
        ADMINISTRATOR,
    ),
    "invitations.void": INSIDE,
    "ending.end_agents": INSIDE,
    "launch.request_launch": (lambda who, a: launch.request_launch(who, factories.launch_request()), PERSON),
    "lifecycle.request_eject": (lambda who, a: lifecycle.request_eject(who, a.agent.key), OWNER),
    "lifecycle.request_cancel": (lambda who, a: lifecycle.request_cancel(who, a.launch.id), OWNER),
    "links.changes_for": (lambda who, a: links.changes_for(who) if isinstance(who, User) else (), NOTHING_SHOWN),
    "permissions.can": INSIDE,
    "permissions.check": INSIDE,
    "permissions.roles_of": INSIDE,
    "people.account_of": INSIDE,
    "people.people": (lambda who, a: list(people.people(who)), ADMINISTRATOR),
    "people.get_person": (lambda who, a: people.get_person(who, "alice"), ADMINISTRATOR),
    "people.add_person": (lambda who, a: people.add_person(who, "newcomer", insecure_http=True), ADMINISTRATOR),
    "people.make_link": (lambda who, a: people.make_link(who, "alice", insecure_http=True), ADMINISTRATOR),
    "people.disable": (lambda who, a: people.disable(who, "alice"), ADMINISTRATOR),
    "people.enable": (lambda who, a: people.enable(who, "off", insecure_http=True), ADMINISTRATOR),
    "people.delete": (lambda who, a: people.delete(who, "alice", typed="alice", purge=False), ADMINISTRATOR),
    "people.set_administrator": (lambda who, a: people.set_administrator(who, "alice", wanted=True), ADMINISTRATOR),
    "proving.request_link": (
        lambda who, a: proving.request_link(who, account="alice-unix", password="the password"),
        PERSON,
    ),
    "proving.link_account": INSIDE,  # see RUNNER
    "exile.exilable": (lambda who, a: list(exile.exilable(who, scope=Scope.OWN)), PERSON),
    "exile.request_exile": (
        lambda who, a: exile.request_exile(who, scope=Scope.PERSON, person="alice"),
        ADMINISTRATOR,
    ),
    "purge_running.may_purge": INSIDE,
    "purging.purge_all_of": INSIDE,
    "purging.batch_of": INSIDE,  # the person's own, see test_access
    "purging.request_purge": (
        lambda who, a: purging.request_purge(who, states=[a.state.key], snapshots=[a.snapshot.key]),
        ("404", "404", "ok", "ok", "404", "404"),
    ),
    "retrying.request_retry": (lambda who, a: retrying.request_retry(who, a.failed.id), OWNER),
    "snapshots.get_snapshots": (
        lambda who, a: snapshots.get_snapshots(who, [a.snapshot.key], action=Action.VIEW_SNAPSHOT),
        OWNER,
    ),
    "snapshots.get_snapshot": (lambda who, a: snapshots.get_snapshot(who, a.snapshot.key), OWNER),
    "snapshots.request_restore": (lambda who, a: snapshots.request_restore(who, a.snapshot.key), OWNER),
    "snapshots.request_snapshot": (lambda who, a: snapshots.request_snapshot(who, a.state.key), OWNER),
    "snapshots.snapshots_for": (lambda who, a: list(snapshots.snapshots_for(who)), NOTHING_SHOWN),
    "states.all_states": (lambda who, a: list(states.all_states(who)), NOTHING_SHOWN),
    "states.for_launch": INSIDE,
    "states.get_states": (lambda who, a: states.get_states(who, [a.state.key], action=Action.VIEW_STATE), OWNER),
    "states.get_state": (lambda who, a: states.get_state(who, a.state.key), OWNER),
    "states.offered_for": (lambda who, a: list(states.offered_for(who)), NOTHING_SHOWN),
    "states.problem_of": INSIDE,
    "states.states_for": (lambda who, a: list(states.states_for(who)), NOTHING_SHOWN),
    "selectors.agents_for": (lambda who, a: list(selectors.agents_for(who)), NOTHING_SHOWN),
    "selectors.live_agents_for": (lambda who, a: list(selectors.live_agents_for(who)), NOTHING_SHOWN),
    "selectors.get_agent": (lambda who, a: selectors.get_agent(who, a.agent.key), OWNER),
    "selectors.operations_for": (lambda who, a: list(selectors.operations_for(who)), NOTHING_SHOWN),
    "selectors.get_operation": (lambda who, a: selectors.get_operation(who, a.launch.id), OWNER),
    "selectors.classes_for": (lambda who, a: list(selectors.classes_for(who)), NOTHING_SHOWN),
    "selectors.host_account_of": (lambda who, a: selectors.host_account_of(who), NOTHING_SHOWN),
    "terminals.get_terminal": (lambda who, a: terminals.get_terminal(who, a.agent.key), OWNER),
    "terminals.record_attach": (
        lambda who, a: terminals.record_attach(
            who, terminals.TerminalAccess(key=a.agent.key, name="", state="", viewer="x")
        ),
        OWNER,
    ),
}
