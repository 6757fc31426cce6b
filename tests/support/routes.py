"""Every address that the resolver knows, as a template with {names} and as an address to ask for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

# What stands for each argument of an address, unless a test says otherwise: nothing of that name exists.
NOWHERE: Mapping[str, str] = {
    "key": "f" * 32,
    "operation_id": "00000000-0000-4000-8000-000000000000",
    "username": "nobody",
    "name": "nobody",
    "object_id": "1",
    "content_type_id": "1",
    "app_label": "agents",
    "id": "1",
    "url": "x",
}


def templates(patterns: list[Any] | None = None, before: str = "/") -> Iterator[str]:
    """`/agents/{key}/eject` and so on, those of the admin included."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        text = re.sub(r"\(\?P<(\w+)>(?:\[[^]]*\](?:\{[0-9,]+\})?|[^()[\]])*\)", r"{\1}", str(pattern.pattern))
        text = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", text).removeprefix("^").replace(r"\Z", "").replace("$", "")
        if isinstance(pattern, URLResolver):
            yield from templates(pattern.url_patterns, before + text)
        elif isinstance(pattern, URLPattern):
            yield before + text


def filled(template: str, values: Mapping[str, str] | None = None) -> str:
    """The address for `template`; an argument that is not in `values` leads nowhere."""
    known = {**NOWHERE, **(values or {})}
    return re.sub(r"\{(\w+)\}", lambda found: known.get(found.group(1), "1"), template)
