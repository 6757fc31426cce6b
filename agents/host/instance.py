"""Where one installation of the service lives: names, directories, sockets, ids (the same for every process of it)."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path

DEFAULT_NAME = "jackin"
DEFAULT_PORT = 8000
NAME_PATTERN = re.compile(r"[a-z][a-z0-9]{0,7}")

USER_RUN = "jackin-run"
USER_WEB = "jackin-web"
USER_TERM = "jackin-term"
USER_DNS = "jackin-dns"
USER_ARCH = "jackin-arch"
USER_BUILD = "jackin-build"
USER_REMAP = "jackin-remap"
GROUP_DB = "jackin-db"
USERS = (USER_RUN, USER_WEB, USER_TERM, USER_ARCH, USER_DNS, USER_BUILD, USER_REMAP)
MEMBERS = {GROUP_DB: (USER_RUN, USER_WEB)}

# One range for the whole machine: root in every container of every instance is this unprivileged id.
REMAP_BASE = 1879048192
REMAP_COUNT = 16777216

CLAUDE_UID = 1000  # user `claude` in every container


class BadInstance(ValueError):
    """JACKIN_INSTANCE or JACKIN_PORT holds something that is no instance name or no port."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instance:
    """One installation; `name` also names its network namespace, interfaces and firewall chains."""

    name: str = DEFAULT_NAME
    port: int = DEFAULT_PORT

    def __post_init__(self) -> None:
        if not NAME_PATTERN.fullmatch(self.name):
            raise BadInstance(f"JACKIN_INSTANCE is {self.name!r}; allowed: a-z, then up to 7 more of a-z and 0-9.")
        if not 1 <= self.port <= 65535:
            raise BadInstance(f"JACKIN_PORT is {self.port}; allowed: 1 to 65535.")

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Instance:
        """The instance that JACKIN_INSTANCE and JACKIN_PORT name. Raises BadInstance."""
        values = os.environ if env is None else env
        port = values.get("JACKIN_PORT") or str(DEFAULT_PORT)
        if not port.isascii() or not port.isdigit() or len(port) > 5:
            raise BadInstance(f"JACKIN_PORT is {port!r}; allowed: 1 to 65535.")
        return cls(name=values.get("JACKIN_INSTANCE") or DEFAULT_NAME, port=int(port))

    # Directories

    @property
    def data(self) -> Path:
        suffix = "" if self.name == DEFAULT_NAME else f"-{self.name}"
        return Path(f"/var/lib/jackin-web{suffix}")

    @property
    def engine_dir(self) -> Path:
        return self.data / "engine"

    @property
    def run_root(self) -> Path:
        return self.data / "run-root"

    @property
    def run_web(self) -> Path:
        return self.data / "run-web"

    @property
    def states(self) -> Path:
        return self.data / "states"

    @property
    def snapshots(self) -> Path:
        return self.data / "snapshots"

    @property
    def stage(self) -> Path:
        return self.data / "stage"

    @property
    def keys(self) -> Path:
        return self.data / "keys"

    @property
    def trash(self) -> Path:
        return self.data / "trash"

    @property
    def web(self) -> Path:
        return self.data / "web"

    @property
    def host_dir(self) -> Path:
        """Root-only notes of the supervisor: engine pid files, chosen addresses, firewall history."""
        return self.data / "host"

    @property
    def code(self) -> Path:
        """Root-owned releases, virtual environments and build caches."""
        return Path("/opt/jackin-web") / self.name

    @property
    def busybox(self) -> Path:
        """The static program of the gate: a copy of the system's where that is static."""
        return self.code / "busybox"

    @property
    def logs(self) -> Path:
        return Path("/var/log/jackin-web") / self.name

    # Files and sockets

    @property
    def database(self) -> Path:
        return self.web / "db.sqlite3"

    @property
    def engine_socket(self) -> Path:
        return self.run_root / "docker.sock"

    @property
    def broker_socket(self) -> Path:
        return self.run_root / "broker.sock"

    @property
    def pam_socket(self) -> Path:
        """Root's alone: the broker asks here whether a password is right."""
        return self.run_root / "pam.sock"

    @property
    def guard_socket(self) -> Path:
        return self.run_root / "guard.sock"

    @property
    def feed_socket(self) -> Path:
        return self.run_root / "terminals-feed.sock"

    @property
    def archiver_socket(self) -> Path:
        return self.run_root / "archiver.sock"

    @property
    def runner_socket(self) -> Path:
        return self.run_web / "runner.sock"

    @property
    def terminals_socket(self) -> Path:
        return self.run_web / "terminals.sock"

    @property
    def links_file(self) -> Path:
        return self.keys / "links.json"

    @property
    def first_password_file(self) -> Path:
        return self.keys / "first-password"

    @property
    def lock_file(self) -> Path:
        return self.host_dir / "lock"

    # Network

    @property
    def netns(self) -> str:
        return self.name

    @property
    def veth(self) -> str:
        return f"{self.name}-host"  # at most 13 characters; the kernel allows 15
