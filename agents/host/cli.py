"""`manage.py` as root: account links and the doctor here, every other command as the service's own account."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from agents.host import doctor, layout, links, release, settings
from agents.host.children import PYTHON
from agents.host.instance import BadInstance, Instance
from agents.host.management import Django
from agents.host.shell import HostError, visible

COLUMNS = ("web_user", "account", "uid", "linked_at", "how")  # of `host links`, with a tab between them
TREE = Path(__file__).resolve().parents[2]


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when done, 1 for a failure, 2 for wrong usage."""
    os.umask(0o077)
    try:
        instance = Instance.from_env()
        _use_installed_copy(instance, argv)
        if argv[:1] == ["host"]:
            return _host(argv[1:], instance)
        if argv[:1] == ["doctor"]:
            return doctor.main(argv[1:], instance, TREE)
        return _as_service(argv, instance)
    except BadInstance as error:
        print(f"manage.py: {error}", file=sys.stderr)
        return 2
    except HostError as error:
        print(f"manage.py: {error}", file=sys.stderr)
        return 1


def _use_installed_copy(instance: Instance, argv: Sequence[str]) -> None:
    """From a tree that somebody else may write, root goes on in the installed copy."""
    if release.installed(TREE, instance):
        return
    place = release.current(instance)
    copy = place.resolve() if place.is_symlink() else release.install(TREE, instance)
    layout.check_chain(copy)
    env = dict(os.environ) | {"PYTHONPATH": str(copy)}
    os.execve(PYTHON, [PYTHON, "-P", "-s", "-B", f"{copy}/manage.py", *argv], env)  # noqa: S606


def _host(argv: Sequence[str], instance: Instance) -> int:
    parser = argparse.ArgumentParser(prog="manage.py host", description="Which web user acts as which Unix account.")
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("link", help="let a web user act as a Unix account")
    add.add_argument("user", help="name of the web user")
    add.add_argument("account", help="name of the Unix account")
    remove = commands.add_parser("unlink", help="take the account away from a web user")
    remove.add_argument("user", help="name of the web user")
    commands.add_parser("links", help="show all links")
    arguments = parser.parse_args(argv)
    django = Django(settings.load(instance), TREE)
    if arguments.command == "link":
        said = links.link(django, arguments.user, arguments.account)
        print(f"{visible(arguments.user)} acts as {visible(arguments.account)} from now on")
        print(said, end="")
    elif arguments.command == "unlink":
        links.unlink(django, arguments.user)
        print(f"{visible(arguments.user)} acts as nobody from now on")
    else:
        for found in links.links(instance):
            print("\t".join(visible(str(found.get(key, ""))) for key in COLUMNS))
    return 0


def _as_service(argv: Sequence[str], instance: Instance) -> int:
    """Become the runner's account and run Django's command there."""
    django = Django(settings.load(instance), TREE)
    if not (TREE / "venv").exists():
        raise HostError("The service is not set up yet.", remedy="Start it once: ./scripts/serve")
    env = django.env() | {"TERM": os.environ.get("TERM", "dumb")}
    command = django.argv(*argv)
    os.chdir(TREE)
    os.execve(command[0], command, env)  # noqa: S606
    return 1
