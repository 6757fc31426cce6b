"""People and their Unix accounts."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.models import Group

from agents.admin.base import ReadOnlyAdmin, shown
from agents.models import HostAccount, Invitation, User

admin.site.enable_nav_sidebar = False
admin.site.index_title = "Records"
admin.site.unregister(Group)  # rights are a table in agents.operations.permissions, not groups


@admin.register(User)
class UserAdmin(ReadOnlyAdmin):
    list_display = ("username", "is_active", "is_staff", "must_change_password", "last_login")
    list_filter = ("is_active", "is_staff")
    search_fields = ("username",)
    hidden = frozenset({"password", "first_name", "last_name", "email"})


@admin.register(HostAccount)
class HostAccountAdmin(ReadOnlyAdmin):
    list_display = ("user", shown("account"), "uid", shown("how"), "linked_at")
    list_select_related = ("user",)
    search_fields = ("user__username", "account")


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "user", "kind", shown("created_by"), "expires_at", "used_at")
    list_display_links = ("created_at",)
    list_filter = ("kind",)
    list_select_related = ("user",)
    search_fields = ("user__username",)
    hidden = frozenset({"secret_hash"})
