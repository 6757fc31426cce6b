"""Forms about people: the secret of an invitation, a first password, a new person, the end of one."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.functional import lazy

from agents.operations.errors import Invalid
from agents.web.forms.account import _password, _rules


def _text(label: str, *, most: int, needed: bool = True, help_text: str = "") -> forms.CharField:
    attrs = {"class": "input", "autocomplete": "off", "spellcheck": "false"}
    return forms.CharField(
        label=label, max_length=most, required=needed, help_text=help_text, widget=forms.TextInput(attrs)
    )


class Told(forms.Form):
    """A form that an operation's messages can be put into."""

    names: dict[str, str] = {}  # noqa: RUF012 - field of the operation → field of the form

    def take(self, refusal: Invalid) -> None:
        """Put each message of `refusal` at its field."""
        for wrong, messages in refusal.errors.items():
            field = self.names.get(wrong, wrong)
            for message in messages:
                self.add_error(field if field in self.fields else None, message)


class SecretForm(Told):
    """What stands behind the # of a link."""

    secret = _text("Code of the link", most=128)


class FirstPasswordForm(Told):
    """A password of one's own, twice."""

    names = {"new_password": "new_password1"}  # noqa: RUF012
    secret = forms.CharField(max_length=128, widget=forms.HiddenInput)
    new_password1 = _password("New password", autocomplete="new-password", help_text=lazy(_rules, str)())
    new_password2 = _password("The new password again", autocomplete="new-password")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["new_password1"].widget.attrs["autofocus"] = True

    def clean_new_password2(self) -> str:
        again: str = self.cleaned_data["new_password2"]
        if again != self.cleaned_data.get("new_password1", again):
            raise forms.ValidationError("The two new passwords differ. Type both anew.")
        return again


class AddForm(Told):
    """Somebody new."""

    username = _text(
        "User name", most=32, help_text="1 to 32 of A-Z, a-z, 0-9, . _ and -, a letter or _ first. For good."
    )
    name = _text("Name", most=100, needed=False, help_text="For the author of commits in their agents.")
    email = _text("Mail address", most=254, needed=False, help_text="The same.")


class DeleteForm(Told):
    """The typed name, and what happens to what the person leaves behind."""

    CHOICES = (("keep", "Keep their states and snapshots"), ("purge", "Purge them for good"))

    states = forms.ChoiceField(label="States", choices=CHOICES, initial="keep", widget=forms.RadioSelect)
    typed = _text("Their user name, to confirm", most=32)
