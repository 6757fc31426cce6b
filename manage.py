#!/usr/bin/env python3
"""The command line: Django's commands, run by root as the service's own account; `host …` and `doctor` as root."""

from __future__ import annotations

import os
import sys


def main() -> None:
    if os.geteuid() == 0:
        # Root imports neither Django nor the database: this never returns.
        from agents.host.cli import main as as_root

        sys.exit(as_root(sys.argv[1:]))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jackin_web.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
