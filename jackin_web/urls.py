"""All addresses of the service."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from agents.web.views import account

urlpatterns = [
    path("admin/login/", account.admin_log_in),
    path("admin/logout/", account.log_out),
    path("admin/password_change/", account.password),
    path("admin/", admin.site.urls),
    path("", include("agents.web.urls")),
]
