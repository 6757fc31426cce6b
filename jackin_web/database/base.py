"""Django's SQLite, which looks at what lies at the database's path each time before it is opened."""

from __future__ import annotations

import os
from typing import Any

from django.db.backends.sqlite3 import base
from django.db.utils import OperationalError

from agents.host import database_file


class DatabaseWrapper(base.DatabaseWrapper):
    """OperationalError instead of following a link or waiting at a pipe; goes on once the file is right again."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        allowed = database_file.owners() | {os.geteuid()}
        if problem := database_file.problem(conn_params["database"], allowed=allowed):
            raise OperationalError(f"The database is not opened: {problem}.")
        return super().get_new_connection(conn_params)
