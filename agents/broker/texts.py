"""The broker's sentences, one per code, and the escaping of whatever is named in them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

MOST_SHOWN = 300

# code → (sentence, what to do next). The order is that of the checks.
TEXTS: Mapping[str, tuple[str, str]] = {
    # the person
    "not-linked": (
        "{web_user} is not linked to a Unix account of this machine.",
        "Ask the administrator to run, as root: manage.py host link {web_user} ACCOUNT",
    ),
    "account-changed": (
        "The Unix account {account} is no longer the one that was linked: {reason}.",
        "Ask the administrator to look at the account and to link it again, as root: manage.py host link",
    ),
    "account-refused": ("The Unix account {account} cannot be used for agents: {reason}.", "{remedy}"),
    "not-proven": (
        "This account and this password do not go together, or agents may not run for the account.",
        "Try again; the administrator sees in the broker's log whether it is the account that is refused.",
    ),
    "account-expired": (
        "The password is right, but the Unix account {account} may not be used: it or its password has expired.",
        "Log in on the machine and change the password, or ask the administrator.",
    ),
    "account-taken": (
        "The Unix account {account} is linked to another person here already.",
        "Two people share an account only if root says so: manage.py host link {web_user} {account}",
    ),
    "too-many-tries": (
        "There were too many attempts for this person, this account or in all.",
        "Wait {minutes} minutes, then try again.",
    ),
    "pam-away": (
        "Passwords of Unix accounts cannot be checked now.",
        "Ask the administrator to link the account: manage.py host link {web_user} ACCOUNT",
    ),
    "name-service": (
        "The name service of this machine did not say within {seconds} seconds who {account} is.",
        "Try again; if it stays so, ask the administrator to look at: getent passwd {account}",
    ),
    "ids-clash": (
        "{file} gives ids of the agents' containers to somebody else: {reason}.",
        "No agent starts meanwhile. Ask the administrator to change that line, as root, so that {ours} is free.",
    ),
    # the request
    "forbidden": ("Only root may do this.", "Run the command as root."),
    "busy": ("{what} at the moment.", "Try again in a few seconds."),
    "bad-request": ("The broker does not understand the request: {detail}.", ""),
    "too-many": (
        "{count} mounts are asked for; at most {most} are allowed.",
        "Mount a common parent directory instead.",
    ),
    "conflict": ("The launch {launch} already has other mounts staged.", "Release it first."),
    "unknown-launch": ("Nothing is staged for the launch {launch}.", "Launch again."),
    "mismatch": ("The container is not what was prepared: {reason}.", "The launch is ended; launch again."),
    "firewall": ("The firewall of the agents' network is not in place: {reason}.", "Run, as root: manage.py doctor"),
    # a state as a stream
    "unreadable": (
        "{path} in the state cannot be read by its owner.",
        "Let an agent with this state correct its mode (chmod u+rwX), then try again.",
    ),
    "state-too-large": ("The state cannot be archived: {reason}.", "Remove what it does not need, then try again."),
    "stream": ("The state could not be carried: {reason}.", "Try again."),
    "internal": ("The broker failed at {what}.", "Its log names the reason; run, as root: manage.py doctor"),
    # the state
    "no-state": (
        "The state {state} is not on this machine any more.",
        "Launch with a fresh state, or restore a snapshot of it.",
    ),
    "state-account": (
        "The state was made for another Unix account: it belongs to uid {other}, and {account} is uid {uid} now.",
        "It is left as it is. Launch with a fresh state, or ask the administrator which account is the right one.",
    ),
    "state-in-use": ("The state {state} is being prepared for a launch.", "Eject the agent first."),
    "not-deleted": (
        "Something in the state cannot be deleted: {reason}.",
        "Ask the administrator to look at the service's trash directory; it is tried again.",
    ),
    # the path, as text
    "not-absolute": ("“{path}” is not an absolute path.", "Give the whole path, beginning with /."),
    "dot-dot": ("“{path}” contains “..” or “.” as a part.", "Give the plain path without them."),
    "control-characters": (
        "The path contains characters that cannot be shown or stored: “{path}”.",
        "Rename the directory.",
    ),
    "too-long": ("The path is too long: {size} bytes, where {most} are allowed.", "Give a shorter path."),
    # the source, as its owner finds it
    "missing": ("{path} does not exist.", "Create the directory or correct the path."),
    "not-a-directory": ("{path} is not a directory{detail}.", "Mount the directory that holds it."),
    "not-readable": (
        "{account} may not read {path}: {reason}.",
        "Choose a directory that {account} can list and enter.",
    ),
    "not-writable": (
        "{account} may not write to {path}: {reason}.",
        "Mount it read-only, or choose another directory.",
    ),
    "link-elsewhere": ("{path} is a link to {real}.", "Give {real} itself."),
    "refused-source": (
        "{path} cannot be mounted: {reason}.",
        "Choose a directory of your own, for example below your home.",
    ),
    "filesystem": (
        "{path} lies on a file system of the type {fstype}, which cannot be mounted safely{detail}.",
        "Use a directory on one of these: {allowed}.",
    ),
    "submounts": (
        "Other file systems are mounted below {path}: {below}.",
        "Mount each of them as well, at the same place below the destination, or choose a directory without them.",
    ),
    "timeout": (
        "{path} did not answer within {seconds} seconds.",
        "Its file system may hang; choose another directory.",
    ),
    "not-looked": (
        "{path} was not looked at: others of this request took {seconds} seconds.",
        "See those first, then try again.",
    ),
    # the destination
    "destination-bad": (
        "The destination “{path}” cannot be used: {reason}.",
        "Give an absolute path such as /workspace/project.",
    ),
    "destination-refused": (
        "The destination {path} is reserved: {reason}.",
        "Choose a path such as /workspace/project, /home/claude/project or /srv/data.",
    ),
    "destination-twice": ("Two mounts have the destination {path}.", "Give each mount a destination of its own."),
}

# Characters that would reorder or hide what is around them; of all spaces only the plain one is what it looks like.
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}


def shown(text: str) -> str:
    """`text` for a sentence: control, format and bidi characters as escapes, at most MOST_SHOWN characters."""
    cut = text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…"
    return "".join(_escape(c) if c != " " and unicodedata.category(c) in _INVISIBLE else c for c in cut)


def _escape(character: str) -> str:
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
