"""What all admin pages share: they show rows and change none; foreign text is made visible."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import CharField, Field, JSONField, Model, TextField
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat

from agents.operations.text import shortened, visible

MOST_IN_LIST = 120
MOST_ON_PAGE = 4000

Column = Callable[[Model], str]


@functools.cache  # Django compares columns by identity
def shown(name: str, *, most: int = MOST_IN_LIST, title: str = "") -> Column:
    """A column with the text of field `name`, also a related row's (`owner__username`).

    Every character is visible, cut after `most`; a dash where there is nothing.
    """

    @admin.display(description=title or name.replace("_", " "), ordering=name)
    def column(row: Model) -> str:
        value: Any = row
        for part in name.split("__"):
            value = getattr(value, part, None)
        return "–" if value in (None, "") else visible(shortened(str(value), most=most), keep="\n\t")

    column.__name__ = name
    return column


def _column_or_name(field: Field[Any, Any]) -> Column | str:
    is_text = isinstance(field, CharField | TextField | JSONField) and not field.choices
    return shown(field.name, most=MOST_ON_PAGE) if is_text else field.name


@functools.cache
def sized(name: str, *, title: str = "") -> Column:
    """A column with a number of bytes in words."""

    @admin.display(description=title or name.replace("_", " "), ordering=name)
    def column(row: Model) -> str:
        value = getattr(row, name)
        return "–" if value is None else filesizeformat(value)

    column.__name__ = name
    return column


class NoChange:
    """Adding, changing and deleting are refused to everybody, whatever permissions they hold; staff may look."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_active and request.user.is_staff)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.is_staff)


class ReadOnlyAdmin(NoChange, admin.ModelAdmin):  # type: ignore[type-arg] # the class is not generic at run time
    """A list, and a page for each row with all its fields but `hidden`."""

    actions: Sequence[str] | None = None
    list_per_page = 50
    show_full_result_count = False
    hidden: ClassVar[frozenset[str]] = frozenset()

    def _fields(self) -> list[Any]:
        return [_column_or_name(f) for f in self.model._meta.fields if f.name not in self.hidden and not f.primary_key]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return self._fields()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return self._fields()


class ReadOnlyRows(NoChange, admin.TabularInline):  # type: ignore[type-arg]
    """Rows below their parent. `columns` are the fields to show."""

    template = "admin/agents/rows.html"  # Django's own also prints each row's __str__, as it is
    extra = 0
    max_num = 0
    can_delete = False
    columns: ClassVar[tuple[str, ...]] = ()

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [_column_or_name(self.model._meta.get_field(name)) for name in self.columns]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return self.get_fields(request, obj)
