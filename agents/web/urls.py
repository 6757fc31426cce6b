"""Addresses of the pages."""

from __future__ import annotations

from django.urls import path, re_path

from agents.web.views import (
    account,
    agents,
    dashboard,
    exile,
    invitation,
    launch,
    operations,
    people,
    snapshots,
    states,
)

PERSON = r"(?P<username>[A-Za-z_][A-Za-z0-9._-]{0,31})"
KEY = r"(?P<key>[0-9a-f]{32})"

urlpatterns = [
    path("", dashboard.dashboard, name="dashboard"),
    path("login", account.log_in, name="login"),
    path("logout", account.log_out, name="logout"),
    path("password", account.password, name="password"),
    path("account", account.account, name="account"),
    path("account/link", account.link, name="account-link"),
    path("invitation", invitation.invitation, name="invitation"),
    path("launch", launch.launch, name="launch"),
    path("launch/preview", launch.preview, name="launch-preview"),
    re_path(rf"^agents/{KEY}\Z", agents.agent, name="agent"),
    re_path(rf"^agents/{KEY}/eject\Z", agents.eject, name="agent-eject"),
    path("snapshots", snapshots.listing, name="snapshots"),
    re_path(rf"^snapshots/{KEY}/restore\Z", snapshots.restore, name="snapshot-restore"),
    path("states", states.listing, name="states"),
    path("states/purge", states.purge, name="purge"),
    re_path(rf"^states/purge/{KEY}\Z", states.batch, name="purge-batch"),
    re_path(rf"^states/{KEY}\Z", states.state, name="state"),
    re_path(rf"^states/{KEY}/snapshot\Z", snapshots.take, name="state-snapshot"),
    path("operations", operations.operations, name="operations"),
    path("operations/<uuid:operation_id>", operations.operation, name="operation"),
    path("operations/<uuid:operation_id>/cancel", operations.cancel, name="operation-cancel"),
    path("operations/<uuid:operation_id>/retry", operations.retry, name="operation-retry"),
    path("operations/<uuid:operation_id>/log", operations.log, name="operation-log"),
    path("exile", exile.own, name="exile"),
    path("exile/everyone", exile.everyone, name="exile-everyone"),
    path("exile/of/<str:name>", exile.person, name="exile-person"),
    path("people", people.people, name="people"),
    path("people/add", people.add, name="people-add"),
    re_path(rf"^person/{PERSON}\Z", people.person, name="person"),
    re_path(rf"^person/{PERSON}/link\Z", people.make_link, name="person-link"),
    re_path(rf"^person/{PERSON}/enable\Z", people.enable, name="person-enable"),
    re_path(rf"^person/{PERSON}/disable\Z", people.disable, name="person-disable"),
    re_path(rf"^person/{PERSON}/delete\Z", people.delete, name="person-delete"),
    re_path(rf"^person/{PERSON}/administrator\Z", people.administrator, name="person-administrator"),
]
