"""What the broker knows of its installation, found out once at its start."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from agents.broker import names
from agents.host.instance import CLAUDE_UID, REMAP_BASE, REMAP_COUNT, USER_RUN, Instance

CODE = Path(__file__).resolve().parents[2]  # the tree that this program runs from


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Paths and ids. `allowed_peers` are the uids that may speak to the broker at all."""

    data: Path
    stage: Path
    states: Path
    trash: Path
    keys: Path
    links_file: Path
    first_password_file: Path
    pam_socket: Path
    code: Path
    busybox: Path
    allowed_peers: frozenset[int]
    base: int = REMAP_BASE
    count: int = REMAP_COUNT
    claude: int = CLAUDE_UID

    @property
    def groups_file(self) -> Path:
        """Names of groups that root allows although they are refused by default, one per line."""
        return self.keys / "allowed-groups"

    @classmethod
    def from_instance(cls, instance: Instance) -> Config:
        """For the installed service; without the user jackin-run only root may call."""
        runner = names.local_uid(USER_RUN)
        return cls(
            data=instance.data,
            stage=instance.stage.resolve(),  # as mountinfo names it
            states=instance.states,
            trash=instance.trash,
            keys=instance.keys,
            links_file=instance.links_file,
            first_password_file=instance.first_password_file,
            pam_socket=instance.pam_socket,
            code=instance.code,
            busybox=instance.busybox,
            allowed_peers=frozenset({0} if runner is None else {0, runner}),
        )
