"""Login and password forms: fields and their attributes; the check itself is Django's and operations'."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.password_validation import password_validators_help_texts
from django.utils.functional import lazy

from agents.models import User
from agents.operations.errors import Invalid


def _password(label: str, *, autocomplete: str, help_text: Any = "") -> forms.CharField:
    attrs = {"class": "input", "autocomplete": autocomplete}
    return forms.CharField(
        label=label, strip=False, max_length=1024, help_text=help_text, widget=forms.PasswordInput(attrs=attrs)
    )


def _rules() -> str:
    return " ".join(password_validators_help_texts())


class LoginForm(AuthenticationForm):
    """Django's own, in our clothes. The message never says which of the two was wrong."""

    error_messages = {  # noqa: RUF012 - the parent's is no ClassVar either
        "invalid_login": (
            "This name and this password do not go together. A one-time password works once, within its hour."
        ),
        "inactive": "This account is switched off.",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "Username"
        self.fields["username"].widget.attrs |= {"class": "input", "spellcheck": "false"}
        self.fields["password"].widget.attrs |= {"class": "input"}


class PasswordForm(forms.Form):
    """A new password, twice; the present one too, unless it was a one-time password."""

    old_password = _password("Present password", autocomplete="current-password")
    new_password1 = _password("New password", autocomplete="new-password", help_text=lazy(_rules, str)())
    new_password2 = _password("The new password again", autocomplete="new-password")

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if user.must_change_password:
            del self.fields["old_password"]
        next(iter(self.fields.values())).widget.attrs["autofocus"] = True

    def clean_new_password2(self) -> str:
        again: str = self.cleaned_data["new_password2"]
        if again != self.cleaned_data.get("new_password1", again):
            raise forms.ValidationError("The two new passwords differ. Type both anew.")
        return again

    def take(self, refusal: Invalid) -> None:
        """Put each message of `refusal` at its field."""
        for wrong, messages in refusal.errors.items():
            field = "new_password1" if wrong == "new_password" else wrong
            for message in messages:
                self.add_error(field if field in self.fields else None, message)


class LinkForm(forms.Form):
    """A Unix account and its own password."""

    account = forms.CharField(
        label="Unix account",
        max_length=64,
        help_text="Your login name on this machine.",
        widget=forms.TextInput({"class": "input", "autocomplete": "off", "spellcheck": "false"}),
    )
    password = _password(
        "Its password",
        autocomplete="off",
        help_text="Checked by this machine's PAM and kept nowhere. Five attempts in a quarter of an hour.",
    )

    def take(self, refusal: Invalid) -> None:
        """Put each message of `refusal` at its field."""
        for field, found in refusal.errors.items():
            for message in found:
                self.add_error(field if field in self.fields else None, message)
