"""Linux system calls that Python does not offer; each raises OSError on failure."""

from __future__ import annotations

import ctypes
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
# Numbers above 423 are the same on every architecture.
_OPEN_TREE, _MOVE_MOUNT, _OPENAT2, _FACCESSAT2, _MOUNT_SETATTR = 428, 429, 437, 439, 442

AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_EACCESS = 0x200

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
_MOUNT_ATTR_IDMAP = 0x100000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_PRIVATE = 0x1, 0x2, 0x4, 0x8, 1 << 18
_MS_REMOUNT = 0x20
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8

CLONE_NEWUSER, CLONE_NEWNET, _CLONE_NEWNS = 0x10000000, 0x40000000, 0x20000

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38


def _checked(result: int, name: str = "") -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), name or None)
    return result


def _syscall(number: int, *arguments: object) -> int:
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments))


def openat2(path: str, *, at: int = AT_FDCWD, flags: int = os.O_PATH, resolve: int = RESOLVE_NO_MAGICLINKS) -> int:
    """Open `path`; the new descriptor is close-on-exec."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, resolve)
    return _syscall(_OPENAT2, ctypes.c_int(at), os.fsencode(path), how, ctypes.c_size_t(len(how)))


def accessible(fd: int, mode: int) -> int:
    """0 if the effective ids may do `mode` (os.R_OK …) to what `fd` refers to (O_PATH will do), else the errno."""
    flags = ctypes.c_int(_AT_EMPTY_PATH | _AT_EACCESS)
    result = _libc.syscall(ctypes.c_long(_FACCESSAT2), ctypes.c_int(fd), b"", ctypes.c_int(mode), flags)
    return 0 if result == 0 else ctypes.get_errno()


def clone_mount(fd: int) -> int:
    """A detached copy of the one mount under `fd`, rooted there; nothing mounted below comes along."""
    flags = ctypes.c_uint(_AT_EMPTY_PATH | _OPEN_TREE_CLONE | os.O_CLOEXEC)
    return _syscall(_OPEN_TREE, ctypes.c_int(fd), b"", flags)


def mount_setattr(fd: int, *, on: int, off: int = 0, user_namespace: int | None = None) -> None:
    """Set and clear attributes of a detached mount; with `user_namespace`, id-map it, too. Makes it private."""
    if user_namespace is not None:
        on |= _MOUNT_ATTR_IDMAP
    attributes = struct.pack("QQQQ", on, off, MS_PRIVATE, user_namespace or 0)
    flags, size = ctypes.c_uint(_AT_EMPTY_PATH), ctypes.c_size_t(len(attributes))
    _syscall(_MOUNT_SETATTR, ctypes.c_int(fd), b"", flags, attributes, size)


def move_mount(fd: int, target: str) -> None:
    """Attach the detached mount `fd` at `target`."""
    at, flags = ctypes.c_int(AT_FDCWD), ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH)
    _syscall(_MOVE_MOUNT, ctypes.c_int(fd), b"", at, os.fsencode(target), flags)


def mount_tmpfs(target: str, *, name: str, flags: int, options: str) -> None:
    """Mount a new tmpfs; what is mounted below it appears where the mount that it lies on is shared."""
    where = os.fsencode(target)
    _checked(_libc.mount(name.encode(), where, b"tmpfs", ctypes.c_ulong(flags), options.encode()), target)


def detach(target: str) -> None:
    """Unmount `target` with all below it, lazily; symlinks are not followed."""
    _checked(_libc.umount2(os.fsencode(target), ctypes.c_int(MNT_DETACH | UMOUNT_NOFOLLOW)), target)


def unshare_user_namespace() -> None:
    """Put the calling process into a user namespace of its own."""
    _checked(_libc.unshare(ctypes.c_int(CLONE_NEWUSER)))


def enter_user_namespace(fd: int) -> None:
    """Put the calling (single-threaded) process into the user namespace `fd`."""
    _checked(_libc.setns(ctypes.c_int(fd), ctypes.c_int(CLONE_NEWUSER)))


def enter_network_namespace(fd: int) -> None:
    """Put the calling thread, and no other, into the network namespace `fd`."""
    _checked(_libc.setns(ctypes.c_int(fd), ctypes.c_int(CLONE_NEWNET)))


def enter_mount_namespace(fd: int) -> None:
    """Put the calling (single-threaded) process into the mount namespace `fd`."""
    _checked(_libc.setns(ctypes.c_int(fd), ctypes.c_int(_CLONE_NEWNS)))


def remount(target: str, *, options: str) -> None:
    """Give the file system at `target`, which has to be nosuid and noexec, new options of its own."""
    flags = ctypes.c_ulong(_MS_REMOUNT | MS_NOSUID | MS_NOEXEC)
    _checked(_libc.mount(None, os.fsencode(target), None, flags, options.encode()), target)


def exchange(one: str, other: str, *, at: int) -> None:
    """Swap the names of two entries of the directory `at` in one step (RENAME_EXCHANGE)."""
    fd = ctypes.c_int(at)
    _checked(_libc.renameat2(fd, os.fsencode(one), fd, os.fsencode(other), ctypes.c_uint(2)), other)


def sync_file_system(fd: int) -> None:
    """Have everything on the disk that was written to the file system of `fd`."""
    _checked(_libc.syncfs(ctypes.c_int(fd)))


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero))


def become_subreaper() -> None:
    """Orphans among our descendants become our children."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def make_undumpable() -> None:
    """No core dump, no ptrace by the same user, /proc/self owned by root."""
    _prctl(_PR_SET_DUMPABLE, 0)


def forbid_new_privileges() -> None:
    """Set no_new_privs."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent(number: int) -> None:
    """Get signal `number` when the parent ends."""
    _prctl(_PR_SET_PDEATHSIG, number)
