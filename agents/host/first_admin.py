"""The first administrator: a web user for the Unix account that started the service, with a one-time password."""

from __future__ import annotations

import os
import pwd
import secrets
import string
import sys
from collections.abc import Mapping
from pathlib import Path

from agents.host import links
from agents.host.instance import USER_RUN
from agents.host.management import Django
from agents.host.settings import write_private
from agents.host.shell import HostError, as_user, base_env, run, say

OPERATOR, OPERATOR_GROUP = "operator", "jackin-operator"
MARK = "made by jackin-web"  # in the account's comment: somebody's own account of that name is left alone
LENGTH = 24
ALPHABET = "".join(sorted(set(string.ascii_letters + string.digits) - set("0O1lI")))
NOTE = "first-administrator"
SAMPLE = {
    "README.md": "# Sample project\n\nA place to try things: launch an agent here and ask it to change `hello.py`.\n",
    "hello.py": 'def greet(name: str) -> str:\n    return f"Hello, {name}!"\n\n\nif __name__ == "__main__":\n'
    '    print(greet("world"))\n',
}


def account_for(env: Mapping[str, str], *, asked: str | None) -> tuple[str, bool]:
    """The Unix account to link, and whether it is the one to be made. No person's account is ever guessed."""
    if asked:
        return asked, False
    caller = env.get("SUDO_USER", "")
    return (caller, False) if caller and caller != "root" else (OPERATOR, True)


def check_account(name: str) -> pwd.struct_passwd:
    """Raises HostError unless `name` is an ordinary account."""
    try:
        found = pwd.getpwnam(name)
    except KeyError as error:
        raise HostError(f"There is no account {name!r} on this machine.", remedy="Give --account NAME.") from error
    if not 1000 <= found.pw_uid < 65534:
        raise HostError(
            f"The account {name} has uid {found.pw_uid}; agents act for ordinary accounts (1000 and above) only.",
            remedy="Give --account NAME of an ordinary account.",
        )
    return found


def make_operator() -> bool:
    """The account `operator` with a sample project; returns whether it had to be made.

    Raises HostError where there is an account of that name which is not ours: no person's account is ever guessed.
    """
    try:
        found = pwd.getpwnam(OPERATOR)
    except KeyError:
        found = None
    if found is not None and found.pw_gecos.split(",")[0] != MARK:
        raise HostError(
            f"Nobody was named as first administrator, and the account {OPERATOR} on this machine is somebody's own.",
            remedy="Give --account NAME.",
        )
    if found is not None:
        return False
    # Debian has a system group `operator`; the account needs an ordinary one of its own.
    run(["groupadd", "--force", OPERATOR_GROUP])
    words = ["--gid", OPERATOR_GROUP, "--shell", "/bin/bash", "--comment", MARK]
    run(["useradd", "--create-home", *words, OPERATOR])
    home = Path(check_account(OPERATOR).pw_dir)
    project = home / "sample-project"
    # All of it as the account itself: root follows no link in a place that somebody else can write.
    _as_operator(["mkdir", "-m", "755", str(project)], home)
    for name, text in SAMPLE.items():
        _as_operator(["tee", "--", f"{project}/{name}"], home, text=text)
    identity = ["-c", "user.name=Operator", "-c", f"user.email={OPERATOR}@localhost"]
    git = ["git", "-C", str(project), "-c", "init.defaultBranch=main", *identity]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Start a sample project"]):
        _as_operator([*git, *words], home)
    return True


def _as_operator(argv: list[str], home: Path, *, text: str | None = None) -> None:
    run(
        as_user(OPERATOR, argv, umask=0o022, group=OPERATOR_GROUP),
        env=base_env() | {"HOME": str(home)},
        cwd=home,
        text=text,
    )


def ensure(django: Django, *, asked: str | None) -> None:
    """Make and link the first administrator, once; show the password once, or leave it in the named file."""
    instance = django.settings.instance
    note = instance.host_dir / NOTE
    if note.exists() and note.read_text() == _database(django):
        if asked:
            say("--account is for the first administrator, and there is one already: see manage.py host link.")
        return
    account, ours = account_for(os.environ, asked=asked)
    if ours and make_operator():
        say(f"Made the account {OPERATOR} with a sample project in ~{OPERATOR}/sample-project.")
    check_account(account)
    password = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    words = ["first_administrator", account]
    answer = django.manage(*words, user=USER_RUN, text=f"{password}\n").split()
    if answer[-1:] == ["created"]:
        _hand_over(django, account, password)
    elif answer[-1:] != ["exists"]:
        raise HostError("manage.py first_administrator answered neither `created` nor `exists`.")
    if not any(found.get("web_user") == account for found in links.links(instance)):
        links.link(django, account, account)
    note.write_text(_database(django))


def _hand_over(django: Django, account: str, password: str) -> None:
    file = django.settings.instance.first_password_file
    say(f"First administrator: {account}, acting as the Unix account {account}.")
    if sys.stdout.isatty():
        say(f"One-time password, shown only now: {password}")
    else:
        write_private(file, f"{password}\n".encode())
        say(f"One-time password: in {file} (root only; removed at the first login)")
    say("It works once, for one hour, and must be changed then.")


def _database(django: Django) -> str:
    """Another database has no administrator yet."""
    try:
        return str(os.lstat(django.settings.instance.database).st_ino)
    except OSError:
        return ""
