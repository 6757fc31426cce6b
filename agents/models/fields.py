"""Fields that read whatever stands in the database."""

from __future__ import annotations

from typing import Any

from django.db import models


class LenientJSONField(models.JSONField):
    """JSON, or None where the database holds what cannot be read: one forged row must not close a whole page.

    SQLite takes nested values that are too deep for Python. The schema is JSONField's: no migration knows of it.
    """

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        try:
            return super().from_db_value(value, expression, connection)
        except RecursionError:
            return None

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs
