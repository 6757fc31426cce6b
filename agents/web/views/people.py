"""People, for administrators: the list, one person, and what can be done with them."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from agents.models import LIVE_STATES, User
from agents.operations import people as operations
from agents.operations.errors import Conflict, Invalid, Refused
from agents.operations.invitations import Link
from agents.web.auth import signed_in
from agents.web.forms.people import AddForm, DeleteForm
from agents.web.http import Request

MOST_ROWS = 500


@require_safe
@signed_in
def people(request: Request) -> HttpResponse:
    everybody = operations.people(request.user)
    gone = request.GET.get("show") == "deleted"
    context = {
        "here": "people",
        "people": everybody.filter(deleted_at__isnull=not gone)[:MOST_ROWS],
        "gone": gone,
        "counts": (everybody.filter(deleted_at=None).count(), everybody.exclude(deleted_at=None).count()),
    }
    return render(request, "agents/people.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def add(request: Request) -> HttpResponse:
    operations.people(request.user)
    form = AddForm(request.POST or None)
    if form.is_bound and form.is_valid():
        cleaned = form.cleaned_data
        try:
            link = operations.add_person(
                request.user, cleaned["username"], name=cleaned["name"], email=cleaned["email"]
            )
            return _shown_once(request, link)
        except Invalid as refusal:
            form.take(refusal)
        except (Conflict, Refused) as refusal:
            form.add_error(None, f"{refusal.message} {refusal.remedy}".strip())
    status = 422 if form.is_bound else 200
    return render(request, "agents/person_add.html", {"here": "people", "form": form}, status=status)


@require_safe
@signed_in
def person(request: Request, username: str) -> HttpResponse:
    return render(request, "agents/person.html", _context(request, username))


@require_POST
@signed_in
def make_link(request: Request, username: str) -> HttpResponse:
    return _shown_once(request, operations.make_link(request.user, username))


@require_POST
@signed_in
def enable(request: Request, username: str) -> HttpResponse:
    operations.enable(request.user, username)
    messages.success(request, f"{username} may log in again.")
    return redirect("person", username=username)


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def disable(request: Request, username: str) -> HttpResponse:
    if request.method == "POST":
        ended = operations.disable(request.user, username)
        also = f" {ended} of their agents end now." if ended else ""
        messages.success(request, f"{username} is switched off.{also}")
        return redirect("person", username=username)
    return render(request, "agents/person_disable.html", _context(request, username))


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def delete(request: Request, username: str) -> HttpResponse:
    context = _context(request, username)
    form = DeleteForm(request.POST or None, initial={"states": "keep"})
    if form.is_bound and form.is_valid():
        cleaned = form.cleaned_data
        try:
            problems = operations.delete(
                request.user, username, typed=cleaned["typed"], purge=cleaned["states"] == "purge"
            )
        except Invalid as refusal:
            form.take(refusal)
        else:
            messages.success(request, f"{username} is deleted.")
            for problem in problems:
                messages.error(request, problem)
            return redirect("people")
    return render(request, "agents/person_delete.html", context | {"form": form}, status=422 if form.is_bound else 200)


@require_POST
@signed_in
def administrator(request: Request, username: str) -> HttpResponse:
    wanted = request.POST.get("wanted") == "yes"
    operations.set_administrator(request.user, username, wanted=wanted)
    messages.success(request, f"{username} is {'an administrator' if wanted else 'no administrator any more'}.")
    return redirect("person", username=username) if request.user.username != username or wanted else redirect("/")


def _context(request: Request, username: str) -> dict[str, object]:
    found: User = operations.get_person(request.user, username)
    return {
        "here": "people",
        "person": found,
        "oneself": found.pk == request.user.pk,
        "account": operations.account_of(found),
        "agents": found.agents.filter(state__in=LIVE_STATES)[:50],
    }


def _shown_once(request: Request, link: Link) -> HttpResponse:
    """Answered at once, not after a redirect: the secret is kept nowhere from where it could be shown again."""
    address = f"{request.build_absolute_uri(reverse('invitation'))}#{link.secret}"
    return render(request, "agents/person_link.html", {"here": "people", "link": link, "address": address})
