"""The contract of the engine and of the broker; Docker and the in-memory fake both keep it (tests/contract)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from agents.engine.types import (
    AccountLink,
    BuildSpec,
    CheckedMount,
    ContainerInfo,
    Deleted,
    EngineEvent,
    EngineInfo,
    HostIdentity,
    LaunchSpec,
    MountProblem,
    MountRequest,
    Packed,
    Staging,
    StateSize,
    StatesOnDisk,
)

GATE_DIR = "/run/jackin/gate"
SECRETS_DIR = "/run/jackin/secrets"
STATE_DIR = "/jackin/state"


class Engine(Protocol):
    """The engine's side of an agent's life. Every method blocks; call them from a thread.

    All raise EngineUnreachable when the engine does not answer. Objects carry LABEL_INSTANCE and are found by it:
    nothing without that label is ever touched.
    """

    def info(self) -> EngineInfo:
        """What the engine says of itself."""

    def image_id(self, tag: str) -> str | None:
        """Id of the image under `tag`, or None."""

    def image_content(self, tag: str) -> str | None:
        """LABEL_CONTENT of the image under `tag`, or None where there is no image or no label."""

    def build_image(
        self, spec: BuildSpec, *, log: Callable[[str], None], cancelled: Callable[[], bool] = lambda: False
    ) -> str:
        """Build `spec` and tag it; returns the image id. `log` gets the output line by line.

        Idempotent: with an up-to-date image under the tag, returns its id at once and logs nothing.
        Raises BuildFailed; Cancelled within 5 s of `cancelled()` becoming true. Leaves no container behind.
        """

    def ensure_network(self, name: str, *, agent: str, operation: str) -> str:
        """The agent's own bridge network; returns its id. Idempotent. Raises Conflict if the name is not ours."""

    def create_container(self, spec: LaunchSpec) -> str:
        """Create, not start; returns the id.

        Pre: image and network exist, the staged paths are mounted. Idempotent by name and operation: a container
        of the same operation is returned as it is; of another one: Conflict. Raises NotFound for a missing image.
        """

    def attach(self, container: str) -> socket.socket:
        """A connected stream of the container's TTY: what is sent is typed, what is received is output.

        Works before start (so that no byte is lost) and while it runs. The caller owns the socket. Raises NotFound.
        """

    def start(self, container: str) -> ContainerInfo:
        """Start it; idempotent. Post: its first program runs, `pid` set, or it ended already. Raises NotFound."""

    def resize(self, container: str, *, rows: int, columns: int) -> None:
        """Set the TTY's size. Idempotent; nothing happens when it does not run. Raises NotFound."""

    def container(self, name_or_id: str) -> ContainerInfo | None:
        """The container, or None."""

    def containers(self) -> list[ContainerInfo]:
        """All containers of this instance, running or not."""

    def networks(self) -> Mapping[str, str]:
        """Name → agent key of all networks of this instance."""

    def logs(self, container: str, *, most: int) -> bytes:
        """The last bytes of output, at most `most`. Empty when there are none or the container is gone.

        The engine keeps whole lines: an unfinished last one may be missing.
        """

    def pause(self, container: str) -> None:
        """Freeze all its processes; idempotent, nothing happens when it does not run. Raises NotFound."""

    def unpause(self, container: str) -> None:
        """Let them go on; idempotent, gone is fine. Post: it is not paused."""

    def stop(self, container: str, *, grace: int) -> None:
        """Hang up its terminal (SIGHUP: interactive shells ignore SIGTERM), after `grace` seconds SIGKILL; idempotent,
        gone is fine. Post: it does not run. Raises Conflict if it is not ours."""

    def remove_container(self, container: str) -> None:
        """Remove it and its anonymous volumes, running or not; idempotent. Post: it does not exist.

        Raises Conflict if it is not ours.
        """

    def remove_network(self, name: str) -> None:
        """Disconnect whatever hangs on it and remove it; idempotent. Raises Conflict if it is not ours."""

    def events(self, *, stop: Callable[[], bool]) -> Iterator[EngineEvent]:
        """Events of our containers from this call on; ends when `stop()` is true (looked at every second).

        Raises EngineUnreachable when the engine goes away: call again, and look at `containers()` for what was missed.
        """


class Broker(Protocol):
    """The root helper's side. Every method blocks, at most some seconds. Raise BrokerUnreachable, BrokerRefused."""

    def identity(self, web_user: str) -> HostIdentity:
        """The Unix account linked to `web_user`, as it is now. BrokerRefused `not-linked`, `account-changed` …"""

    def links(self) -> list[AccountLink]:
        """All links."""

    def unlink(self, web_user: str) -> bool:
        """Take the link of `web_user` away; whether there was one."""

    def link_with_password(self, web_user: str, account: str, password: str) -> AccountLink:
        """Link `web_user` to `account` if `password` is that account's own; takes some seconds.

        Raises BrokerRefused `not-proven`, `account-expired`, `account-taken`, `too-many-tries`, `pam-away`.
        """

    def check(self, web_user: str, mounts: Sequence[MountRequest]) -> list[CheckedMount | MountProblem]:
        """Look at each mount as the owner; one answer each, in order. Changes nothing."""

    def stage(self, web_user: str, launch: str, mounts: Sequence[MountRequest], *, state: str = "") -> Staging:
        """Open, id-map and mount all of them, and the state `state`, for `launch` (32 hex digits); all or nothing.

        Idempotent by `launch`: the same request again returns the same staging. Raises BrokerRefused with `index`.
        """

    def admit(self, launch: str, *, pid: int, secrets: Mapping[str, str]) -> None:
        """Compare the mounts of the process `pid` with what was staged, lower its kernel counters, hand over the
        secrets, open the gate, detach the staging. Raises BrokerRefused `mismatch`: the gate stays shut."""

    def release(self, launch: str) -> None:
        """Remove whatever is staged for `launch`; idempotent."""

    def staged(self) -> list[str]:
        """Launches that still have something staged."""

    def make_state(self, web_user: str, state: str) -> bool:
        """Make the empty directory of the state `state` (32 hex digits), the owner's own; False when it is there.

        Idempotent. Raises BrokerRefused `state-account` when it was made for another Unix account.
        """

    def measure_state(self, state: str) -> StateSize:
        """Count a state as its owner, some seconds at most. Raises BrokerRefused `no-state`."""

    def list_states(self) -> StatesOnDisk:
        """All states on the host."""

    def purge_state(self, state: str) -> Deleted:
        """Move the state to the trash and delete of it what some seconds allow; call again until it is done.

        Idempotent: a state that is nowhere is done. Raises BrokerRefused `state-in-use`, `not-deleted`.
        """

    def archive(self, web_user: str, state: str, *, with_logins: bool, stream: int) -> Packed:
        """Write the state `state` (32 hex digits) of the owner as a tar into the pipe `stream`, as the owner.

        Blocks until all is read at the other end, for minutes. The caller closes `stream`. Raises BrokerRefused.
        """

    def restore(self, web_user: str, state: str, *, with_logins: bool, stream: int) -> None:
        """Read a tar from the pipe `stream` and put it in the place of the state `state`: whole, or not at all.

        Without `with_logins` no login is taken from it. Blocks for minutes. Raises BrokerRefused.
        """

    def network_ready(self) -> None:
        """Check the firewall now, re-apply what is missing. Raises BrokerRefused `firewall` if that fails."""

    def forget_first_password(self) -> None:
        """Remove the file with the first administrator's one-time password; idempotent."""
