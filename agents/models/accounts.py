"""Who logs in, and which Unix account they act as."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.core.validators import RegexValidator
from django.db import models

USERNAME_PATTERN = r"\A[A-Za-z_][A-Za-z0-9._-]{0,31}\Z"  # what Docker takes in a container's name


class User(AbstractUser):
    """A person at the browser. The name becomes part of container names, hence its narrow alphabet."""

    username = models.CharField(
        max_length=32,
        unique=True,
        validators=[RegexValidator(USERNAME_PATTERN, "1 to 32 letters, digits, dots, _ and -; a letter or _ first.")],
    )
    must_change_password = models.BooleanField(default=False)
    one_time_expires_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(
        null=True, blank=True, help_text="Gone for everybody; the ledger still names them."
    )

    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        ordering: ClassVar[list[str]] = ["username"]


class HostAccount(models.Model):
    """A mirror of the broker's link for the pages to show; the broker never reads it."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="host_account")
    account = models.CharField(max_length=64)
    uid = models.PositiveBigIntegerField()
    how = models.CharField(max_length=64)
    linked_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar[list[str]] = ["account"]

    def __str__(self) -> str:
        return f"{self.user.username} → {self.account} ({self.uid})"
