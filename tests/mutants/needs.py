"""A pytest plugin: writes which of the collected tests start the whole service."""

from __future__ import annotations

import json
import os
import pathlib

import pytest


def pytest_collection_finish(session: pytest.Session) -> None:
    """The ids, without parameters, to the file that NEEDS names."""
    found = {item.nodeid.partition("[")[0] for item in session.items if "service" in getattr(item, "fixturenames", ())}
    pathlib.Path(os.environ["NEEDS"]).write_text(json.dumps(sorted(found)))
