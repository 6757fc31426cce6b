"""Forms: they read text and hold errors; what is allowed is decided by operations."""

from __future__ import annotations
