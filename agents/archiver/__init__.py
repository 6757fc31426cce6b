"""The process that keeps snapshots: an account of its own that reaches nothing but their directory."""
