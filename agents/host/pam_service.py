"""The PAM service that a person's own Unix password is checked by: written once, left alone afterwards."""

from __future__ import annotations

from pathlib import Path

from agents.host.shell import HostError

DIRECTORY = Path("/etc/pam.d")
NAME = "jackin-web"
TEXT = """\
# Put here by jackin-web: a person proves that a Unix account is theirs, to link it to their login.
# Only passwords and accounts are looked at, no session is opened. It may be changed; it is not written again.
@include common-auth
@include common-account
"""


def ensure(directory: Path = DIRECTORY) -> bool:
    """Write the file unless it is there; whether it was written. Without common-auth PAM's own `other` holds."""
    place = directory / NAME
    if place.exists() or not (directory / "common-auth").exists():
        return False
    try:
        draft = place.with_name(f".{NAME}.new")
        draft.write_text(TEXT)
        draft.chmod(0o644)
        draft.replace(place)
    except OSError as error:
        raise HostError(f"{place} cannot be written: {error.strerror}.") from error
    return True
