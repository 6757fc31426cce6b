"""Filters of the lists that ask few things, however many rows there are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from agents.models import AgentClass, MountGrant, User
from agents.operations import ledger
from agents.operations.text import visible

MOST_CHOICES = 50


class ActiveFilter(admin.SimpleListFilter):
    """Whether the agent that got the grant is there now."""

    title = "active now"
    parameter_name = "active"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Active"), ("no", "Past")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[MountGrant]) -> QuerySet[MountGrant]:
        wanted = self.value()
        return ledger.active(queryset, now=wanted == "yes") if wanted in ("yes", "no") else queryset


class _ByName(admin.SimpleListFilter):
    """One of at most MOST_CHOICES names; the address takes any name, the search finds all."""

    path = ""
    rows: ClassVar[QuerySet[Any]]
    name = ""

    def names(self) -> Iterable[str]:
        return self.rows.all().order_by(self.name).values_list(self.name, flat=True)[:MOST_CHOICES]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, visible(name)) for name in self.names()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.path: self.value()}) if self.value() else queryset

    def has_output(self) -> bool:
        return True


class PersonFilter(_ByName):
    title = "person"
    parameter_name = "person"
    path = "owner__username"
    rows = User.objects.filter(deleted_at=None)
    name = "username"


class GrantedToFilter(PersonFilter):
    path = "granted_by__username"


class ClassFilter(_ByName):
    title = "class"
    parameter_name = "class"
    path = "agent_class__slug"
    rows = AgentClass.objects.all()
    name = "slug"


class GrantedClassFilter(ClassFilter):
    path = "agent__agent_class__slug"
