"""Debian packages that the host needs: only those that are missing, and no service is started by installing them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from agents.host.shell import HostError, network_env, run, step

POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# Put here by jackin-web for the time of one installation: start no service.\nexit 101\n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Need:
    """One package, wanted where any of `files` is missing (a program name is looked up in the path)."""

    package: str
    files: tuple[str, ...]


# By program, not by package name: whoever has the program from somewhere else keeps it.
NEEDS = (
    Need(package="iptables", files=("iptables", "ip6tables", "iptables-restore")),
    Need(package="iproute2", files=("ip",)),
    Need(package="util-linux", files=("setpriv", "nsenter")),
    Need(package="acl", files=("setfacl",)),
    Need(package="busybox-static", files=("/usr/bin/busybox",)),  # a dynamic one: see busybox.py
    Need(package="debootstrap", files=("debootstrap",)),
    Need(package="git", files=("git",)),
    Need(package="nodejs", files=("node",)),
    Need(package="npm", files=("npm",)),
    Need(package="ca-certificates", files=("/etc/ssl/certs/ca-certificates.crt",)),
    Need(package="python3-venv", files=("/usr/lib/python3.{minor}/ensurepip/__init__.py",)),
)
# A machine with any dockerd keeps it: docker.io and docker-ce exclude each other.
ENGINE = Need(package="docker.io", files=("dockerd",))


def present(file: str) -> bool:
    """Whether a program or file is there."""
    if "/" in file:
        return os.path.exists(file.format(minor=sys.version_info.minor))
    return shutil.which(file, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin") is not None


def missing(exists: Callable[[str], bool] = present) -> list[str]:
    """Packages to install, in a fixed order."""
    return [need.package for need in (*NEEDS, ENGINE) if not all(exists(file) for file in need.files)]


def ensure() -> None:
    """Install what is missing. Raises HostError; nothing is ever removed."""
    wanted = missing()
    if not wanted:
        return
    if shutil.which("apt-get") is None:
        raise HostError(f"Missing: {', '.join(wanted)}; this is no Debian, so they cannot be installed from here.")
    env = network_env() | {"DEBIAN_FRONTEND": "noninteractive"}
    options = ["-qq", "-y", "--no-install-recommends", "--no-remove", "-o", "DPkg::Lock::Timeout=120"]
    with step(f"installing {' '.join(wanted)}"), no_services():
        run(["apt-get", "update", "-qq"], env=env, timeout=600)
        run(["apt-get", "install", *options, *wanted], env=env, timeout=1800)
    left = missing()
    if left:
        raise HostError(f"After the installation there is still missing: {', '.join(left)}.")


@contextlib.contextmanager
def no_services(policy: Path = POLICY) -> Iterator[None]:
    """While the block runs, installing a package starts no service; afterwards the old policy is back."""
    aside = policy.with_name(policy.name + ".jackin-web")
    if os.path.lexists(policy) and not _is_ours(policy):
        policy.rename(aside)
    policy.write_text(POLICY_TEXT)
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)
        if os.path.lexists(aside):  # also one that an interrupted run had put aside
            aside.rename(policy)


def _is_ours(policy: Path) -> bool:
    """Left by a run that was killed."""
    return not policy.is_symlink() and policy.read_bytes() == POLICY_TEXT.encode()
