"""The engine's own mount namespace: its data is open there, where only its processes look, and nowhere else.

Root of a container has to walk to its root file system, so the directories above it are open to that id, which is
the same in all containers. Where the host sees them, an agent that is handed a directory handle of the host's `/`
walks there as well, to the files of everybody's agents. So on the host the engine's directory is root's alone; in a
namespace of the engine a small open directory lies over it, with the real ones below.
"""

from __future__ import annotations

import os

from agents.broker import mountinfo
from agents.host import engine_config, processes
from agents.host.instance import Instance
from agents.host.shell import run, say

PARTS = ("containerd", "data", "opt")  # of the engine's directory

# mount -c: the path goes through a descriptor of what is about to be covered, and must not be made plain.
_ENTER = """
set -e
exec 9<"$1"
mount -t tmpfs -o mode=0711,size=64k,nr_inodes=64,nosuid,nodev jackin-engine "$1"
for part in $2; do
  mkdir "$1/$part"
  mount -c --bind "/proc/self/fd/9/$part" "$1/$part"
done
exec 9<&-
shift 2
exec "$@"
"""


def enter(instance: Instance) -> list[str]:
    """What to put before a command so that it runs in the namespace: the one that is there, else a new one."""
    found = of_running(instance)
    if found:
        if os.path.samefile(found, "/proc/self/ns/mnt"):
            say("the engine of an earlier release runs on; its data is hidden at the first start without an agent")
        return ["nsenter", f"--mount={found}"]
    share_stage(instance)
    for name in PARTS:
        (instance.engine_dir / name).mkdir(mode=0o700, exist_ok=True)  # dockerd opens its own as far as it must
    os.chmod(instance.engine_dir, 0o700)  # an earlier release left it open
    script = ["/bin/sh", "-c", _ENTER, "sh", str(instance.engine_dir), " ".join(PARTS)]
    return ["unshare", "--mount", "--propagation", "slave", *script]


def of_running(instance: Instance) -> str:
    """The namespace of a process of the engine's, a container's keeper (shim) among them, or an empty string."""
    for program, argument in (
        ("containerd", engine_config.containerd_file(instance)),
        ("dockerd", engine_config.dockerd_file(instance)),
        ("containerd-shim-runc-v2", engine_config.containerd_socket(instance)),
    ):
        if (found := processes.find(program=program, argument=argument)) is not None:
            found.close()
            return f"/proc/{found.pid}/ns/mnt"
    return ""


def share_stage(instance: Instance) -> None:
    """Mounts that the broker makes in its staging directory appear in the engine's namespace, and go there, too."""
    stage = str(instance.stage)
    if not is_mounted(stage):
        run(["mount", "--bind", stage, stage])
        run(["mount", "--make-private", stage])  # else it would be shared with whoever shares what lies around it
    run(["mount", "--make-shared", stage])


def leave(instance: Instance) -> None:
    """When nothing of the engine runs any more: the namespace went with its last process; the stage is plain again."""
    while is_mounted(str(instance.stage)):
        run(["umount", "--lazy", str(instance.stage)])


def is_mounted(path: str) -> bool:
    """Whether something is mounted at `path`; a directory bound over itself is not seen by its device."""
    return any(entry.point == path for entry in mountinfo.read())
