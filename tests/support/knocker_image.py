"""An image of busybox and this machine's Python alone, for agents and build steps that knock."""

from __future__ import annotations

import io
import os
import pathlib
import re
import tarfile

from agents.host.trial import image_tar
from tests.support.knocking import PYTHON
from tests.support.machine import run

LEFT_OUT = {"test", "idlelib", "lib2to3", "ensurepip", "dist-packages", "__pycache__", "tkinter", "pydoc_data"}


def content() -> bytes:
    """The image's one layer."""
    buffer = io.BytesIO(image_tar(pathlib.Path("/usr/bin/busybox").read_bytes()))
    program = os.path.realpath(PYTHON)
    library = os.path.dirname(run(PYTHON, "-c", "import os; print(os.__file__)").strip())
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        for path in (program, *re.findall(r"(/\S+) \(0x", run("ldd", program))):
            archive.add(os.path.realpath(path), arcname=path.lstrip("/"))
        archive.add(program, arcname=PYTHON.lstrip("/"))
        archive.add(library, arcname=library.lstrip("/"), filter=_wanted)
    return buffer.getvalue()


def _wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if LEFT_OUT & set(entry.name.split("/")) else entry
