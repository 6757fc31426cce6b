"""Login, logout, password and the account page."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import login, logout, update_session_auth_hash
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from agents.models import User
from agents.operations import accounts, audit, links, proving, selectors
from agents.operations.errors import Conflict, Invalid, Refused, Unavailable
from agents.web import peer
from agents.web.auth import safe_next, signed_in
from agents.web.forms.account import LinkForm, LoginForm, PasswordForm
from agents.web.http import Request


@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def log_in(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated and request.method != "POST":
        return redirect(safe_next(request))
    form = LoginForm(request, data=request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        user = form.get_user()
        login(request, user)
        request.session[peer.BOUND] = peer.of_request(request)
        audit.record("person.login", actor=user)
        return redirect(safe_next(request))
    if form.is_bound:
        accounts.note_refused_login(request.POST.get("username", ""))
    context = {"form": form, "next": safe_next(request)}
    return render(request, "registration/login.html", context)


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    if isinstance(request.user, User):
        audit.record("person.logout", actor=request.user)
    logout(request)
    return redirect("login")


@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def password(request: Request) -> HttpResponse:
    form = PasswordForm(request.POST or None, user=request.user)
    forced = request.user.must_change_password
    if form.is_valid() and _changed(request, form):
        messages.success(request, "Password changed.")
        return redirect("dashboard" if forced else "account")
    context = {"form": form, "forced": forced}
    return render(request, "registration/password.html", context)


def _changed(request: Request, form: PasswordForm) -> bool:
    cleaned = form.cleaned_data
    try:
        accounts.change_password(request.user, new=cleaned["new_password1"], old=cleaned.get("old_password"))
    except Invalid as refusal:
        form.take(refusal)
        return False
    update_session_auth_hash(request, request.user)
    return True


def admin_log_in(request: HttpRequest) -> HttpResponse:
    """The admin pages have no login of their own; who is logged in and still sent here may not see them."""
    if request.user.is_authenticated:
        raise Refused("The records are for administrators.", remedy="Ask one, if you need to see them.")
    return redirect(f"{reverse('login')}?{urlencode({'next': request.GET.get('next', '')})}")


@require_safe
@signed_in
def account(request: Request) -> HttpResponse:
    return _account(request, LinkForm())


@sensitive_post_parameters("password")
@require_POST
@signed_in
def link(request: Request) -> HttpResponse:
    form = LinkForm(request.POST)
    if form.is_valid():
        cleaned = form.cleaned_data
        try:
            proving.request_link(request.user, account=cleaned["account"], password=cleaned["password"])
        except Invalid as refusal:
            form.take(refusal)
        except (Refused, Conflict, Unavailable) as refusal:
            form.add_error(None, f"{refusal.message} {refusal.remedy}".strip())
        else:
            messages.success(request, f"You act as {cleaned['account']} now.")
            return redirect("account")
    return _account(request, form, status=422)


def _account(request: Request, form: LinkForm, *, status: int = 200) -> HttpResponse:
    context = {
        "here": "account",
        "account": selectors.host_account_of(request.user),
        "changes": links.changes_for(request.user),
        "form": form,
    }
    return render(request, "agents/account.html", context, status=status)
