"""The files that browsers load: collected by the build account, kept by root, so that no page process changes them."""

from __future__ import annotations

import shutil
from pathlib import Path

from agents.host import dependencies
from agents.host.instance import USER_BUILD, Instance
from agents.host.shell import as_user, base_env, run

NAME = "staticfiles"  # in the release, where the settings look for them


def collect(release: Path, instance: Instance) -> bool:
    """Put the collected files into the release, once; returns whether anything had to be done.

    Whoever could write them would change the scripts that every browser runs, an administrator's too.
    """
    target = release / NAME
    if target.exists():
        return False
    work, draft = instance.code / "work" / f"static-{release.name}", target.with_name(f".{NAME}.new")
    for leftover in (work, draft):
        dependencies.remove(leftover)
    try:
        work.mkdir(mode=0o700)
        shutil.chown(work, USER_BUILD, USER_BUILD)
        command = [f"{release}/venv/bin/python", "-P", f"{release}/manage.py", "collectstatic", "--no-input", "-v", "0"]
        env = base_env() | {"PYTHONPATH": str(release), "PYTHONDONTWRITEBYTECODE": "1"}
        env |= {"JACKIN_STATIC": str(work), "JACKIN_DATABASE": ":memory:"}  # no key, no database of ours
        run(as_user(USER_BUILD, command, umask=0o022), env=env, cwd=release, timeout=300)
        dependencies.end_builders()
        dependencies.keep(work, draft)
        draft.rename(target)
    finally:
        dependencies.end_builders()
        for leftover in (work, draft):
            dependencies.remove(leftover)
    return True
