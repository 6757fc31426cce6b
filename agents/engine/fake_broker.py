"""A broker in memory that keeps the contract of agents.engine.api.Broker, on a dictionary of paths."""

from __future__ import annotations

import dataclasses
import os
import posixpath
import threading
from collections.abc import Mapping, Sequence

from agents.engine.api import Broker
from agents.engine.errors import BrokerRefused
from agents.engine.hooks import Hooks
from agents.engine.types import (
    AccountLink,
    CheckedMount,
    Deleted,
    HostIdentity,
    MountProblem,
    MountRequest,
    Packed,
    StagedMount,
    Staging,
    StateSize,
    StatesOnDisk,
)

DEVICE = 2049
REFUSED_SOURCES = ("/proc", "/sys", "/dev", "/run", "/boot", "/etc")
REFUSED_DESTINATIONS = ("/proc", "/sys", "/dev", "/run", "/etc", "/usr", "/bin", "/sbin", "/lib", "/boot", "/var")
REFUSED_THEMSELVES = ("/", "/tmp", "/root", "/home", "/home/claude", "/jackin")  # noqa: S108 -- names, never opened


@dataclasses.dataclass(frozen=True, kw_only=True)
class FakePath:
    """A host path. `readable` and `writable` name the accounts that may; `real` is set for a link to elsewhere."""

    inode: int
    readable: frozenset[str]
    writable: frozenset[str]
    directory: bool = True
    real: str | None = None
    fstype: str = "ext4"


class FakeBroker(Broker):
    """See agents.engine.api.Broker. Beside the contract, for tests: `add_link`, `add_path`, `hooks.fail_at(…)`,
    `admitted` (launch → pid) and `secrets` (launch → names only; values are compared by nobody)."""

    def __init__(self) -> None:
        self.hooks = Hooks()
        self.paths: dict[str, FakePath] = {}
        self.admitted: dict[str, int] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.states: dict[tuple[str, str], bytes] = {}  # (web user, key) → content
        self.trash: set[str] = set()
        self.restored: list[tuple[str, bool]] = []  # key, and whether logins came with it
        self.first_password_forgotten = False
        self.passwords: dict[str, str] = {}  # of Unix accounts
        self._links: dict[str, AccountLink] = {}
        self._identities: dict[str, HostIdentity] = {}
        self._staged: dict[str, tuple[tuple[MountRequest | str, ...], Staging]] = {}
        self._lock = threading.RLock()

    def add_link(self, web_user: str, account: str = "", *, uid: int = 1001, groups: tuple[str, ...] = ()) -> None:
        """Link a web user to a Unix account of the same name, or `account`, with a home directory of its own."""
        name = account or web_user
        self._links[web_user] = AccountLink(
            web_user=web_user, account=name, uid=uid, linked_at="2026-01-01T00:00:00+00:00", how="test"
        )
        home = f"/home/{name}"
        self._identities[web_user] = HostIdentity(account=name, uid=uid, gid=uid, home=home, groups=groups)
        self.add_path(home, name)

    def add_path(self, path: str, *accounts: str, read_only: bool = False, **details: object) -> FakePath:
        """A directory that `accounts` may read and, unless `read_only`, write."""
        everybody = frozenset(accounts)
        found = FakePath(
            inode=1000 + len(self.paths), readable=everybody, writable=frozenset() if read_only else everybody
        )
        self.paths[path] = dataclasses.replace(found, **details)  # type: ignore[arg-type]
        return self.paths[path]

    def identity(self, web_user: str) -> HostIdentity:
        self.hooks.enter("identity")
        if web_user not in self._identities:
            raise BrokerRefused(
                f"{web_user} is not linked to a Unix account.",
                code="not-linked",
                remedy=f"Root links it with `manage.py host link {web_user} ACCOUNT`.",
            )
        return self._identities[web_user]

    def links(self) -> list[AccountLink]:
        self.hooks.enter("links")
        return list(self._links.values())

    def unlink(self, web_user: str) -> bool:
        self.hooks.enter("unlink")
        self._identities.pop(web_user, None)
        return self._links.pop(web_user, None) is not None

    def link_with_password(self, web_user: str, account: str, password: str) -> AccountLink:
        self.hooks.enter("link_with_password")
        if self.passwords.get(account) != password:
            raise BrokerRefused("This account and this password do not go together.", code="not-proven")
        self.add_link(web_user, account)
        return self._links[web_user]

    def check(self, web_user: str, mounts: Sequence[MountRequest]) -> list[CheckedMount | MountProblem]:
        self.hooks.enter("check")
        account = self._account(web_user)
        return [self._look(account, mounts, index) for index in range(len(mounts))]

    def make_state(self, web_user: str, state: str) -> bool:
        self.hooks.enter("make_state")
        self._account(web_user)
        if (web_user, state) in self.states:
            return False
        self.states[web_user, state] = b""
        return True

    def measure_state(self, state: str) -> StateSize:
        self.hooks.enter("measure_state")
        content = next((data for (_, key), data in self.states.items() if key == state), None)
        if content is None:
            raise BrokerRefused("There is no such state.", code="no-state")
        return StateSize(size=len(content), entries=1 if content else 0, logins=b"token" in content, whole=True)

    def list_states(self) -> StatesOnDisk:
        self.hooks.enter("states")
        return StatesOnDisk(kept=frozenset(key for _, key in self.states), trash=frozenset(self.trash))

    def purge_state(self, state: str) -> Deleted:
        self.hooks.enter("purge_state")
        for where in [each for each in self.states if each[1] == state]:
            del self.states[where]
            self.trash.add(state)
            return Deleted(done=False, removed=1)  # the first call throws it away, another one ends it
        self.trash.discard(state)
        return Deleted(done=True, removed=1)

    def stage(self, web_user: str, launch: str, mounts: Sequence[MountRequest], *, state: str = "") -> Staging:
        self.hooks.enter("stage")
        account = self._account(web_user)
        with self._lock:
            if launch in self._staged:
                asked, staging = self._staged[launch]
                if asked != (*mounts, state):
                    raise BrokerRefused("This launch has other mounts staged.", code="mismatch")
                return staging
            if state and (web_user, state) not in self.states:
                raise BrokerRefused("There is no such state.", code="no-state")
            staged = []
            for index, request in enumerate(mounts):
                found = self._look(account, mounts, index)
                if isinstance(found, MountProblem):
                    raise BrokerRefused(found.message, code=found.code, index=index)
                staged.append(_staged(launch, index, request, found))
            groups = tuple(2001 + n for n in range(len(self._identities[web_user].groups)))
            folder = f"/stage/{launch}"
            staging = Staging(
                launch=launch,
                mounts=tuple(staged),
                gate=f"{folder}/gate",
                secrets=f"{folder}/secrets",
                groups=groups,
                state=f"{folder}/state" if state else "",
            )
            self._staged[launch] = ((*mounts, state), staging)
            return staging

    def admit(self, launch: str, *, pid: int, secrets: Mapping[str, str]) -> None:
        self.hooks.enter("admit")
        with self._lock:
            if launch not in self._staged:
                raise BrokerRefused(f"Nothing is staged for the launch {launch}.", code="unknown-launch")
            if pid <= 0:
                raise BrokerRefused(f"The process {pid} is not the container's gate.", code="mismatch")
            self.admitted[launch] = pid
            self.secrets[launch] = dict(secrets)
            del self._staged[launch]

    def release(self, launch: str) -> None:
        self.hooks.enter("release")
        with self._lock:
            self._staged.pop(launch, None)

    def staged(self) -> list[str]:
        self.hooks.enter("staged")
        return sorted(self._staged)

    def network_ready(self) -> None:
        self.hooks.enter("network_ready")

    def forget_first_password(self) -> None:
        self.hooks.enter("forget_first_password")
        self.first_password_forgotten = True

    def archive(self, web_user: str, state: str, *, with_logins: bool, stream: int) -> Packed:
        self.hooks.enter("archive")
        self._account(web_user)
        if (web_user, state) not in self.states:
            raise BrokerRefused("There is no such state.", code="no-state")
        os.write(stream, self.states[web_user, state])
        return Packed(entries=1, bytes=5, skipped=0, changed=0, logins_left_out=0 if with_logins else 1)

    def restore(self, web_user: str, state: str, *, with_logins: bool, stream: int) -> None:
        self.hooks.enter("restore")
        self._account(web_user)
        data = b""
        while piece := os.read(stream, 65536):
            data += piece
        if not data:
            raise BrokerRefused("The snapshot is damaged.", code="stream")
        self.states[web_user, state] = data
        self.restored.append((state, with_logins))

    def _account(self, web_user: str) -> str:
        with self._lock:
            if web_user not in self._identities:
                raise BrokerRefused(f"{web_user} is not linked to a Unix account.", code="not-linked")
            return self._identities[web_user].account

    def _look(self, account: str, mounts: Sequence[MountRequest], index: int) -> CheckedMount | MountProblem:
        request = mounts[index]
        problem = _asked_badly(request) or _same_destination(mounts, index) or self._refused(account, request)
        if problem is not None:
            return problem
        found = self.paths[request.source]
        return CheckedMount(
            source=request.source, real_path=request.source, device=DEVICE, inode=found.inode, fstype=found.fstype
        )

    def _refused(self, account: str, request: MountRequest) -> MountProblem | None:
        path = request.source
        found = self.paths.get(path)
        if path in REFUSED_THEMSELVES or _below(path, REFUSED_SOURCES):
            return MountProblem(code="refused-source", message=f"{path} cannot be given to an agent.")
        if found is None:
            return MountProblem(code="missing", message=f"{path} does not exist.")
        if found.real is not None:
            return MountProblem(code="link-elsewhere", message=f"{path} is a link to {found.real}; give that itself.")
        if not found.directory:
            return MountProblem(code="not-a-directory", message=f"{path} is not a directory.")
        if account not in found.readable:
            return MountProblem(code="not-readable", message=f"{account} may not read {path}.")
        if request.mode == "rw" and account not in found.writable:
            return MountProblem(code="not-writable", message=f"{account} may not write to {path}.")
        return None


def _asked_badly(request: MountRequest) -> MountProblem | None:
    for path in (request.source, request.destination):
        if len(path) > 4096:
            return MountProblem(code="too-long", message=f"The path {path[:40]}… is longer than 4096 bytes.")
        if any(ord(character) < 32 or ord(character) == 127 for character in path):
            return MountProblem(code="control-characters", message="The path holds control characters.")
        if not path.startswith("/"):
            return MountProblem(code="not-absolute", message=f"{path} is not an absolute path.")
        if ".." in path.split("/"):
            return MountProblem(code="dot-dot", message=f"{path} holds `..`.")
    target = request.destination
    if target in REFUSED_THEMSELVES or _below(target, REFUSED_DESTINATIONS) or posixpath.normpath(target) != target:
        return MountProblem(code="destination-refused", message=f"Nothing can be mounted at {target}.")
    return None


def _same_destination(mounts: Sequence[MountRequest], index: int) -> MountProblem | None:
    target = mounts[index].destination
    if any(other.destination == target for other in mounts[:index]):
        return MountProblem(code="destination-twice", message=f"{target} is the destination of two mounts.")
    return None


def _below(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _staged(launch: str, index: int, request: MountRequest, found: CheckedMount) -> StagedMount:
    return StagedMount(
        source=request.source,
        real_path=found.real_path,
        device=found.device,
        inode=found.inode,
        destination=request.destination,
        mode=request.mode,
        staged=f"/stage/{launch}/{index}",
    )
