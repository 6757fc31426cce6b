"""The admin pages: every record to look at, none to change."""

from __future__ import annotations

from agents.admin import accounts, agents, audit, classes, grants, operations, states

__all__ = ["accounts", "agents", "audit", "classes", "grants", "operations", "states"]
