"""Hostile messages: valid ones of each socket with something wrong about them; the same seed makes the same ones."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

KEY = "0123456789abcdef" * 2
MOUNT = {"source": "/home", "destination": "/workspace/x", "mode": "rw"}

# What each socket knows. None of these, as it stands, may change anything: nobody called `fuzz-…` is linked.
VALID: Mapping[str, list[dict[str, Any]]] = {
    "broker": [
        {"v": 1, "op": "identity", "web_user": "fuzz-user"},
        {"v": 1, "op": "links"},
        {"v": 1, "op": "staged"},
        {"v": 1, "op": "link", "web_user": "fuzz-user", "account": "root"},
        {"v": 1, "op": "unlink", "web_user": "fuzz-user"},
        {"v": 1, "op": "link_with_password", "web_user": "fuzz-user", "account": "root", "password": "x", "y": 1},
        {"v": 1, "op": "check", "web_user": "fuzz-user", "mounts": [MOUNT]},
        {"v": 1, "op": "list", "web_user": "fuzz-user", "path": "/root", "prefix": "a", "most": 5},
        {"v": 1, "op": "stage", "web_user": "fuzz-user", "launch": KEY, "mounts": [MOUNT]},
        {"v": 1, "op": "admit", "launch": KEY, "pid": 2, "secrets": {"NAME": "value"}},
        {"v": 1, "op": "release", "launch": KEY},
        {"v": 1, "op": "forget_first_password", "x": 1},
    ],
    "guard": [{"v": 1, "op": "history"}, {"v": 1, "op": "network_ready", "x": 1}, {"op": "history"}],
    "runner": [
        {"op": "wake", "operation": KEY},
        {"op": "wake", "operation": "x", "secrets": {"NAME": "value"}},
        {"op": "check_mounts", "user": "fuzz-user", "mounts": [MOUNT]},
        {"op": "engine_status", "x": 1},
        {"op": "first_login", "x": 1},
        {"op": "follow", "x": 1},
        {"op": "link_account", "user": "fuzz-user", "account": "root", "password": "x", "y": 1},
    ],
    "terminals": [
        {"attach": KEY, "viewer": "fuzz", "rows": 24, "columns": 80},
        {"ack": 1},
        {"resize": [24, 80]},
    ],
    "feed": [
        {"op": "hello"},
        {"op": "stream", "agent": KEY, "rows": 24, "columns": 80},
        {"op": "drop", "agent": KEY, "reason": "fuzz"},
    ],
}
COSTLY = {"forget_first_password", "first_login", "engine_status", "network_ready", "admit", "follow"}
COSTLY |= {"link_account", "link_with_password"}
WEIRD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 10**300, 1.5, 1e308, "", " ", "\0", "\x1b[2J"),
    *("root", "\ud800", "\u202e", "ä" * 300, "x" * 5000, "/" * 5000, [], {}, [[]], [None] * 300, {"a": {"b": {}}}),
    *("0" * 32, "../..", "F" * 32, "/proc/self/root", "\n", "'; --", "%s%n", "٣", [MOUNT] * 40),
]


def wrong_object(rng: random.Random, seed: Mapping[str, Any]) -> dict[str, Any]:
    """`seed` with one to three things changed: keys gone, new or renamed, values of other types and sizes."""
    message = dict(seed)
    for _ in range(rng.randint(1, 3)):
        what, name = rng.random(), rng.choice([*message, "op"])
        if what < 0.15:
            message.pop(name, None)
        elif what < 0.3:
            message[rng.choice(["x", "", "V", "ops", "\0", "a" * 200, "__class__", "secrets"])] = rng.choice(WEIRD)
        elif what < 0.5 and isinstance(message.get(name), list | dict):
            message[name] = _inside(rng, message[name])
        else:
            message[name] = rng.choice(WEIRD)
    if str(message.get("op")) in COSTLY or "secrets" in message:
        message["fuzz"] = rng.choice(WEIRD)  # wrong for certain: good ones of these do something
    return message


def _inside(rng: random.Random, value: Any) -> Any:
    if isinstance(value, dict):
        return {**value, rng.choice(["", "a b", "1", "\0", "x"]): rng.choice(WEIRD)}
    if rng.random() < 0.5:
        return [*value, rng.choice(WEIRD)]
    return [wrong_object(rng, one) if isinstance(one, dict) else rng.choice(WEIRD) for one in value]


def wrong_text(rng: random.Random, seed: Mapping[str, Any]) -> bytes:
    """Bytes that are nearly JSON, or JSON as no parser likes it."""
    text = json.dumps(seed).encode()
    kind = rng.randrange(9)
    if kind == 0:
        return text[: rng.randrange(len(text))]
    if kind == 1:
        depth = rng.choice([10, 900, 5000, 30000])
        return b'{"op":' + b"[" * depth + b"]" * (depth if rng.random() < 0.5 else 0) + b"}"
    if kind == 2:
        return text[:-1] + b', "op": "links"' + b', "op": "staged"}'
    if kind == 3:
        at = rng.randrange(len(text))
        return text[:at] + rng.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf8\x88", b"\x80"]) + text[at:]
    if kind == 4:
        return rng.choice(
            [b"NaN", b"Infinity", b"[]", b"null", b"1", b'""', b"{}", b"[{}]", b"\xef\xbb\xbf{}", b"{'op':1}"]
        )
    if kind == 5:
        return b'{"v": ' + b"9" * rng.choice([20, 400, 4000, 6000]) + b', "op": "links"}'
    if kind == 6:
        return rng.randbytes(rng.choice([0, 1, 3, 40, 3000]))
    if kind == 7:
        changed = bytearray(text)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        return bytes(changed) + b"!"
    return b'{"op": "' + b"x" * rng.choice([100, 9000, 60000]) + b'"}'


def wrong_body(rng: random.Random, socket: str) -> bytes:
    """One message that no socket may take."""
    seed = rng.choice(VALID[socket])
    if rng.random() < 0.5:
        return json.dumps(wrong_object(rng, seed)).encode()
    return wrong_text(rng, seed)


def good_body(rng: random.Random, socket: str) -> bytes:
    """One message that keeps the schema, and is refused for what it asks, or asks for nothing that changes anything."""
    return json.dumps(rng.choice(VALID[socket])).encode()
