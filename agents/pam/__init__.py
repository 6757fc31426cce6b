"""Checks a Unix account's own password through PAM, as root, in a process of its own; of packages only pamela."""
