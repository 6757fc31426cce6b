"""What is staged for a launch, written beside its directory, so that another broker process can go on with it."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from agents.broker.accounts import write_file
from agents.broker.config import Config
from agents.broker.protocol import LAUNCH, Mode, Mount, Refusal
from agents.broker.rules import plain


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pin:
    """One staged directory and what the container must show at `destination`.

    `device` and `inode` are stat's, `mount_device` is "major:minor" of mountinfo.
    """

    source: str
    real_path: str
    destination: str
    mode: Mode
    staged: str
    device: int
    inode: int
    mount_device: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """Everything about one staged launch. `gate`, `secrets` and `state` are pins, too."""

    launch: str
    web_user: str
    account: str
    uid: int
    groups: tuple[int, ...]
    mounts: tuple[Pin, ...]
    gate: Pin
    secrets: Pin
    state: Pin | None = None
    state_key: str = ""

    def matches(self, web_user: str, uid: int, mounts: tuple[Mount, ...], state: str) -> bool:
        """Whether it was made for the same request."""
        mine = [(pin.source, pin.destination, pin.mode) for pin in self.mounts]
        asked = [(plain(mount.source), mount.destination, mount.mode) for mount in mounts]
        same = self.web_user == web_user and self.uid == uid and self.state_key == state
        return same and mine == asked

    @property
    def pins(self) -> tuple[Pin, ...]:
        """All that the container must show, id-mapped directories first."""
        return (*self.mapped, self.gate, self.secrets)

    @property
    def mapped(self) -> tuple[Pin, ...]:
        return self.mounts if self.state is None else (*self.mounts, self.state)

    def told(self) -> dict[str, Any]:
        """What staging answers."""
        keys = ("source", "real_path", "device", "inode", "destination", "mode", "staged")
        return {
            "ok": True,
            "launch": self.launch,
            "mounts": [{key: getattr(pin, key) for key in keys} for pin in self.mounts],
            "gate": self.gate.staged,
            "secrets": self.secrets.staged,
            "groups": list(self.groups),
            "state": self.state.staged if self.state else "",
        }


def directory(config: Config, launch: str) -> Path:
    """Where a launch is staged."""
    return config.stage / launch


def _file(config: Config, launch: str) -> Path:
    return config.stage / f"{launch}.json"


def save(record: Record, config: Config) -> None:
    """Write the record; it is on disk when this returns."""
    write_file(_file(config, record.launch), json.dumps(dataclasses.asdict(record)).encode())


def load(launch: str, config: Config) -> Record:
    """The record. Raises Refusal `unknown-launch`."""
    found = find(launch, config)
    if found is None:
        raise Refusal("unknown-launch", launch=launch)
    return found


def find(launch: str, config: Config) -> Record | None:
    """The record, or None."""
    try:
        data = json.loads(_file(config, launch).read_bytes())
    except FileNotFoundError:
        return None
    data["groups"] = tuple(data["groups"])
    data["mounts"] = tuple(Pin(**pin) for pin in data["mounts"])
    data["gate"], data["secrets"] = Pin(**data["gate"]), Pin(**data["secrets"])
    data["state"] = Pin(**data["state"]) if data.get("state") else None
    return Record(**data)


def forget(launch: str, config: Config) -> None:
    """Remove the record; gone is fine."""
    _file(config, launch).unlink(missing_ok=True)
    _file(config, launch).with_name(f"{launch}.json.new").unlink(missing_ok=True)


def staged(config: Config) -> list[str]:
    """Launches with a record or a directory."""
    names = {name.partition(".")[0] for name in os.listdir(config.stage)}
    return sorted(name for name in names if LAUNCH.fullmatch(name))
