"""A static busybox for the gate and for trials, beside whatever busybox the system itself uses."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

from agents.host.instance import Instance
from agents.host.shell import HostError, network_env, run, step

SYSTEM = Path("/usr/bin/busybox")
PT_INTERP = 3


def ensure(instance: Instance) -> Path:
    """Our root-owned copy. Where the system has the dynamic one (the two packages exclude each other), ours is
    unpacked from the static package without installing it."""
    target = instance.busybox
    if SYSTEM.exists() and is_static(SYSTEM.read_bytes()):
        _keep(SYSTEM.read_bytes(), target)
    elif not target.exists():
        with step("getting a static busybox"):
            _keep(_from_package(), target)
    return target


def is_static(program: bytes) -> bool:
    """Whether `program` is a 64-bit ELF program that needs no loader (ELF header: man 5 elf)."""
    if program[:5] != b"\x7fELF\x02" or len(program) < 64:
        return False
    order = "<" if program[5] == 1 else ">"
    offset, size, count = *struct.unpack_from(order + "Q", program, 32), *struct.unpack_from(order + "HH", program, 54)
    headers = (program[offset + size * n : offset + size * n + 4] for n in range(count))
    return all(len(head) == 4 and struct.unpack(order + "I", head)[0] != PT_INTERP for head in headers)


def _from_package() -> bytes:
    with tempfile.TemporaryDirectory(prefix="jackin-busybox-") as place:
        run(["apt-get", "update", "-qq"], env=network_env(), timeout=600)
        options = ["-qq", "-o", "APT::Sandbox::User=root"]
        run(["apt-get", *options, "download", "busybox-static"], env=network_env(), cwd=place, timeout=300)
        packages = list(Path(place).glob("busybox-static_*.deb"))
        if not packages:
            raise HostError("apt-get brought no busybox-static package.")
        run(["dpkg-deb", "--extract", str(packages[0]), f"{place}/tree"])
        for name in ("usr/bin/busybox", "bin/busybox"):
            program = Path(place) / "tree" / name
            if program.is_file() and is_static(content := program.read_bytes()):
                return content
    raise HostError("The package busybox-static holds no static busybox.")


def _keep(content: bytes, target: Path) -> None:
    if target.exists() and target.read_bytes() == content:
        return
    draft = target.with_name(".busybox.new")
    draft.write_bytes(content)
    draft.chmod(0o755)
    draft.replace(target)
