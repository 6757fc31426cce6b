"""The launch form: shown, its rows added and removed, sent; and what the agent will be able to do."""

from __future__ import annotations

from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from agents.models import Agent, Operation, OperationKind
from agents.operations import selectors
from agents.operations.errors import NotFound, OperationError
from agents.operations.launch import request_launch
from agents.web import preview as sentences
from agents.web.auth import signed_in
from agents.web.forms import mounts
from agents.web.forms.launch import LaunchForm, form_of
from agents.web.http import Request
from agents.web.shown import ShownOperation


@sensitive_post_parameters("environment")
@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def launch(request: Request) -> HttpResponse:
    if request.method != "POST":
        again = _again(request)
        form = (
            form_of(again, person=request.user)
            if again
            else LaunchForm(person=request.user, initial=_chosen_state(request))
        )
        return _page(request, form, again=again)
    if "add_mount" in request.POST or "remove_mount" in request.POST:
        return _page(request, _with_other_rows(request))
    form = LaunchForm(request.POST, person=request.user, rows=mounts.filled(mounts.posted_rows(request.POST)))
    agent = _launched(request, form)
    return redirect("agent", key=agent.key) if agent else _page(request, form)


def _launched(request: Request, form: LaunchForm) -> Agent | None:
    if not form.is_valid():
        return None
    try:
        return request_launch(request.user, form.request()).agent
    except OperationError as refusal:  # here, not at the edge: nothing that was typed may be lost
        form.take(refusal)
        return None


def _with_other_rows(request: Request) -> LaunchForm:
    """The same form with a row more or less; nothing is judged yet, nothing typed is lost."""
    data = request.POST
    rows = mounts.posted_rows(data)
    rows = mounts.with_added(rows) if "add_mount" in data else mounts.without(rows, data["remove_mount"])
    typed = {name: data[name] for name in LaunchForm.base_fields if name in data}
    return LaunchForm(person=request.user, rows=rows, initial=typed)


def _chosen_state(request: Request) -> dict[str, str]:
    """The state that a link to the form has chosen."""
    return {"state": request.GET["state"]} if "state" in request.GET else {}


def _again(request: Request) -> Operation | None:
    """The earlier launch that the form is to be filled in from."""
    wanted = request.GET.get("from")
    if not wanted:
        return None
    operation = selectors.get_operation(request.user, wanted)
    if operation.kind != OperationKind.LAUNCH:
        raise NotFound
    return operation


def _page(request: Request, form: LaunchForm, *, again: Operation | None = None) -> HttpResponse:
    account = selectors.host_account_of(request.user)
    context = {
        "here": "launch",
        "form": form,
        "classes": form.classes,
        "problems": form.problems(),
        "account": account,
        "again": ShownOperation(again) if again else None,
        "preview": sentences.preview(form.mounts, account=account.account if account else ""),
    }
    return render(request, "agents/launch.html", context)


@require_POST
@signed_in
def preview(request: Request) -> HttpResponse:
    """The sentences for what is typed so far; nothing is checked, nothing is kept."""
    return render(request, "agents/partials/_preview.html", {"preview": _sentences(request, request.POST)})


def _sentences(request: Request, data: QueryDict) -> sentences.Preview:
    account = selectors.host_account_of(request.user)
    return sentences.preview(mounts.posted_rows(data), account=account.account if account else "")
