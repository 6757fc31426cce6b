"""`manage.py doctor`: tries each thing that the service needs, in real containers, and says what to do."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from agents.host import busybox, container_checks, forwarding, host_checks, layout, packages, processes, users
from agents.host.checks import Check, Result
from agents.host.engine_config import dockerd_file
from agents.host.instance import Instance
from agents.host.own_engine import OwnEngine
from agents.host.shell import HostError, say, step, visible
from agents.host.trial import trials

MARKS = {"ok": "ok     ", "failure": "FAILURE", "untested": "-      "}


def main(argv: Sequence[str], instance: Instance, tree: Path) -> int:
    """Exit code 0 when nothing failed, 1 when something did, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="manage.py doctor", description="Try each prerequisite of the service.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args(argv).json
    # Standard output is the report; what takes its time is told beside it.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        results = list(_told(examine(instance, tree), quiet=as_json))
    failed = any(result.status == "failure" for result in results)
    if as_json:
        answer = {"ok": not failed, "checks": [dataclasses.asdict(result) for result in results]}
        print(json.dumps(answer, indent=1))
    return 1 if failed else 0


def _told(results: Iterator[Result], *, quiet: bool) -> Iterator[Result]:
    for result in results:
        if not quiet:
            _show(result)
        yield result


def _show(result: Result) -> None:
    say(f"{MARKS[result.status]} {result.name}: {visible(result.detail)}")
    if result.remedy and result.status != "ok":
        say(f"        {visible(result.remedy)}")


def examine(instance: Instance, tree: Path) -> Iterator[Result]:
    """All results, as they come. What cannot be tried because something before it failed is `untested`."""
    yield from (attempt(check) for check in host_checks.checks(instance))
    missing = packages.missing()
    if missing:
        yield Result(name="packages", status="failure", detail=f"missing: {', '.join(missing)}",
                     remedy="./scripts/serve installs them")  # fmt: skip
    names = container_checks.names()
    try:
        if missing:
            raise HostError("packages are missing")
        with running_engine(instance, tree) as engine, trials(engine.api, busybox.ensure(instance)) as made:
            for check in container_checks.checks(instance, engine.api, made):
                yield attempt(check)
    except (HostError, OSError) as error:
        yield Result(name="engine", status="failure", detail=str(error), remedy=f"Logs: {instance.logs}")
        yield from (Result(name=name, status="untested", detail="the engine does not run") for name in names)


def attempt(check: Check) -> Result:
    """The result of one check; whatever it raises is a failure with its words."""
    try:
        detail = check.look()
    except (HostError, OSError, ValueError, KeyError) as error:
        remedy = getattr(error, "remedy", "") or check.remedy
        message = getattr(error, "message", "") or f"{type(error).__name__}: {error}"
        return Result(name=check.name, status="failure", detail=message, remedy=remedy)
    return Result(name=check.name, status="ok", detail=detail)


@contextlib.contextmanager
def running_engine(instance: Instance, tree: Path) -> Iterator[OwnEngine]:
    """The engine of the running service; without one, an engine for the time of the block."""
    engine = OwnEngine(instance)
    found = processes.find(program="dockerd", argument=dockerd_file(instance))
    if found is not None:
        found.close()
        yield engine
        return
    users.ensure_users()
    layout.ensure(layout.table(instance))
    layout.ensure(layout.code_table(instance))
    with step("starting the engine"):
        engine.start()
    try:
        with forwarding.running(instance, tree):
            yield engine
    finally:
        engine.stop()
