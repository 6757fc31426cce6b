"""The page behind a link that lets one person in: the code of the link, then a password of one's own."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import login, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from agents.models import User
from agents.operations import audit, invitations
from agents.operations.errors import Invalid, NotFound, Refused
from agents.web import peer
from agents.web.forms.people import FirstPasswordForm, SecretForm, Told

BACKEND = "agents.operations.accounts.OneTimeAwareBackend"
PAGE = "registration/invitation.html"


@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest) -> HttpResponse:
    """The secret comes in the body of a POST only: no address, and so no log and no Referer, ever holds it."""
    asked = SecretForm(request.POST if request.method == "POST" else None)
    if not asked.is_bound or not asked.is_valid():
        return render(request, PAGE, {"form": asked})
    secret, chosen = asked.cleaned_data["secret"].strip(), "new_password1" in request.POST
    form: Told = FirstPasswordForm(request.POST) if chosen else FirstPasswordForm(initial={"secret": secret})
    try:
        person = invitations.look(secret, came_from=_came_from(request))
        if chosen and form.is_valid() and (user := _used(request, form, secret)) is not None:
            return _let_in(request, user)
    except (NotFound, Refused) as refusal:
        asked.add_error(None, f"{refusal.message} {refusal.remedy}".strip())
        return render(request, PAGE, {"form": asked}, status=refusal.status)
    return render(request, PAGE, {"form": form, "person": person, "secret": secret})


def _used(request: HttpRequest, form: Told, secret: str) -> User | None:
    password = form.cleaned_data["new_password1"]
    try:
        return invitations.use(secret, password=password, came_from=_came_from(request))
    except Invalid as refusal:
        form.take(refusal)
        return None


def _let_in(request: HttpRequest, user: User) -> HttpResponse:
    logout(request)  # whoever sat here before
    login(request, user, backend=BACKEND)
    request.session[peer.BOUND] = peer.of_request(request)
    audit.record("person.login", actor=user, summary="by a link")
    messages.success(request, "Password set. You are logged in.")
    return redirect("dashboard")


def _came_from(request: HttpRequest) -> str:
    """An account of this machine, or another machine."""
    found = peer.of_request(request)
    return found if found != peer.ELSEWHERE else str(request.META.get("REMOTE_ADDR", ""))
