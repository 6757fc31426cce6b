"""`./scripts/test mutants`: takes each protection away in a copy of the tree; the test that names it must fail."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree
from collections.abc import Iterator, Sequence

from agents.host import base_image, busybox, layout, packages, users
from agents.host.instance import Instance
from agents.host.own_engine import OwnEngine
from tests.mutants import catalogue, document
from tests.mutants.catalogue import Mutant
from tests.support import survival
from tests.support.service import NAME, clone

INSTANCE = Instance(name="jkmut", port=8096)
SECONDS = 600  # for one test, with the start of a service
NEEDS = "tests.mutants.needs"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run of some tests came to: numbers of tests, and its last words."""

    failed: int
    passed: int
    errors: int
    said: str


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="./scripts/test mutants --", description=__doc__)
    made.add_argument(
        "names", nargs="*", metavar="NAME", help="mutants or parts (default: all; then the table is written)"
    )
    made.add_argument("--list", action="store_true", help="only name them")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """0: each test passed without its patch and failed with it. 1: one did not. 2: wrong usage."""
    options = parser().parse_args(arguments)
    try:
        mutants = catalogue.chosen(catalogue.read_all(), options.names)
    except catalogue.BadMutant as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(f"{one.part:9} {one.name:40} {one.test}" for one in mutants))
        return 0
    with tempfile.TemporaryDirectory(prefix="jackin-mutants-") as place:
        copy = clone(pathlib.Path(place) / "copy")
        survived = _try_all(copy, mutants)
    if not survived and not options.names:
        text = document.DOCUMENT.read_text()
        document.DOCUMENT.write_text(document.with_table(text, mutants))
    for line in survived:
        print(line)
    print(f"\n{len(mutants) - len(survived)} passed, {len(survived)} failed")
    return 1 if survived else 0


def _try_all(copy: pathlib.Path, mutants: Sequence[Mutant]) -> list[str]:
    """A line for each mutant that its test does not notice."""
    with_service = _need_the_service(copy, mutants)
    quick = [one for one in mutants if one.name not in with_service]
    slow = [one for one in mutants if one.name in with_service]
    live = any(one.ring not in {"unit", "db"} for one in quick)
    survived = []
    for group, engine in (
        (quick, _engine() if live else contextlib.nullcontext("")),
        (slow, contextlib.nullcontext("")),
    ):
        with engine as socket:
            if group:
                survived += _control(copy, group, socket)
            for one in group:
                survived += [line] if (line := _try(copy, one, socket)) else []
                if group is slow:  # nobody else's: only one run has the service at a time
                    _end_leftovers()
    return survived


def _need_the_service(copy: pathlib.Path, mutants: Sequence[Mutant]) -> set[str]:
    """Names of the mutants whose test starts the whole service; asked of pytest itself."""
    tests = sorted({one.test for one in mutants})
    answer = copy.parent / "needs.json"
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", NEEDS, *tests]
    done = subprocess.run(
        command, cwd=copy, env=_environment("") | {"NEEDS": str(answer)}, capture_output=True, text=True
    )
    if done.returncode or not answer.exists():
        raise SystemExit(f"mutants: the tests could not be collected:\n{done.stdout}{done.stderr}")
    needing = set(json.loads(answer.read_text()))
    return {one.name for one in mutants if one.test.partition("[")[0] in needing}


@contextlib.contextmanager
def _engine() -> Iterator[str]:
    """An engine with the base image, for tests that need no more; its socket."""
    packages.ensure()
    users.ensure_users()
    layout.ensure(layout.table(INSTANCE))
    layout.ensure(layout.code_table(INSTANCE))
    engine = OwnEngine(INSTANCE)
    engine.start()
    try:
        busybox.ensure(INSTANCE)
        base_image.ensure(engine.api, INSTANCE)
        yield str(INSTANCE.engine_socket)
    finally:
        engine.stop()


def _control(copy: pathlib.Path, mutants: Sequence[Mutant], socket: str) -> list[str]:
    """Without any patch every test passes: else its failure would show nothing."""
    tests = sorted({one.test for one in mutants})
    found = _run(copy, tests, socket, seconds=SECONDS * 6)
    print(f"without a patch: {found.passed} passed, {found.failed + found.errors} failed", flush=True)
    return [] if found.passed and not found.failed and not found.errors else [f"without a patch:\n{found.said}"]


def _try(copy: pathlib.Path, one: Mutant, socket: str) -> str:
    """Empty if the test fails with the patch; else what went wrong."""
    began = time.monotonic()
    git = ["git", "-C", str(copy), "apply"]
    applied = subprocess.run([*git, str(one.path)], capture_output=True, text=True)
    if applied.returncode:
        return f"{one.name}: the patch does not apply any more:\n{applied.stderr}"
    try:
        found = _run(copy, [one.test], socket, seconds=SECONDS)
    finally:
        subprocess.run([*git, "--reverse", str(one.path)], check=True)
    noticed = found.failed > 0
    print(f"{'noticed' if noticed else 'SURVIVED':8} {one.name} ({time.monotonic() - began:.0f} s)", flush=True)
    return "" if noticed else f"{one.name}: {one.test} does not fail ({found}):\n{found.said}"


def _end_leftovers() -> None:
    """Kill the service's processes that outlived their supervisor: what a patch of the survival part is there for."""
    for pid in survival.processes_of_children(Instance(name=NAME, port=8097)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _run(copy: pathlib.Path, tests: Sequence[str], socket: str, *, seconds: int) -> Outcome:
    report = copy.parent / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=_environment(socket),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
        )
        said = f"{done.stdout[-4000:]}{done.stderr[-1000:]}"
    except subprocess.TimeoutExpired:
        return Outcome(failed=0, passed=0, errors=1, said=f"not within {seconds} s")
    if not report.exists():
        return Outcome(failed=0, passed=0, errors=1, said=said)
    suite = next(iter(xml.etree.ElementTree.parse(report).getroot()))
    tests_run, failed, errors = (int(suite.get(name, "0")) for name in ("tests", "failures", "errors"))
    return Outcome(failed=failed, passed=tests_run - failed - errors, errors=errors, said=said)


def _environment(socket: str) -> dict[str, str]:
    found = {name: value for name, value in os.environ.items() if name not in {"JACKIN_TEST_ENGINE", "PYTHONPATH"}}
    return found | ({"JACKIN_TEST_ENGINE": socket} if socket else {})


if __name__ == "__main__":
    sys.exit(main())
