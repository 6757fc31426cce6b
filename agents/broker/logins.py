"""Which files of a state hold logins, and how a configuration file is freed of them."""

from __future__ import annotations

import json
from typing import Literal

MOST_CONFIGURATION = 8 * 1024 * 1024  # bytes of a file that is read to take logins out of it

Kind = Literal["", "leave", "scrub"]

# Claude Code keeps its tokens in the first; copies and drafts of it have longer names. gh keeps its own in the second.
_CREDENTIALS = b".credentials.json"
_GH = b".config/gh/hosts.yml"
# Claude Code's configuration and its backups: mostly no login, but some keys are.
_CONFIGURATION = b".claude.json"
_LOGIN_KEYS = frozenset(
    {"oauthAccount", "primaryApiKey", "customApiKeyResponses", "claudeAiOauth", "mcpOAuth", "oauthToken", "apiKey"}
)
KNOWN = (b".claude/.credentials.json", b".claude/.claude.json", b".claude.json", _GH)


def kind(name: bytes) -> Kind:
    """What is done with the entry `name` (relative to the state) when logins stay out."""
    parts = name.split(b"/")
    if any(part.startswith(_CREDENTIALS) for part in parts) or name.startswith(_GH):
        return "leave"
    return "scrub" if parts[-1].startswith(_CONFIGURATION) else ""


def scrubbed(content: bytes) -> bytes | None:
    """The configuration without its login keys; itself when it has none; None when it cannot be read as JSON."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError, MemoryError):
        return content if not content.strip() else None
    if not isinstance(found, dict):
        return None
    kept = {name: value for name, value in found.items() if name not in _LOGIN_KEYS}
    try:
        return content if len(kept) == len(found) else json.dumps(kept, indent=2).encode()
    except (ValueError, RecursionError):
        return None
