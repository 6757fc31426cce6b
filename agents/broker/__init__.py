"""The root helper: opens paths as their owner, id-maps and stages mounts; standard library only."""

from __future__ import annotations
