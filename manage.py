#!/usr/bin/env python3
"""The command line: Django's commands, run by root as the service's own account; `host …` and `doctor` as root."""

from __future__ import annotations

import importlib.util
import os
import sys

ONLY_ROOT = (["host"], ["doctor"])


def main() -> int:
    if os.geteuid() == 0:
        # Root imports neither Django nor the database.
        from agents.host.cli import main as as_root

        return as_root(sys.argv[1:])
    if sys.argv[1:2] in ONLY_ROOT or importlib.util.find_spec("django") is None:
        print(f"manage.py: needs root; try: sudo {' '.join(sys.argv)}", file=sys.stderr)
        return 2
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jackin_web.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
    return 0


if __name__ == "__main__":
    sys.exit(main())
