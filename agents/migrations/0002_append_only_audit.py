"""Audit events can be added and read, never changed or removed: the database itself refuses."""

from __future__ import annotations

from django.db import migrations

CREATE = """
CREATE TRIGGER agents_auditevent_no_update BEFORE UPDATE ON agents_auditevent
BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END;
CREATE TRIGGER agents_auditevent_no_delete BEFORE DELETE ON agents_auditevent
BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END;
CREATE TRIGGER agents_auditevent_no_replace BEFORE INSERT ON agents_auditevent
WHEN EXISTS (SELECT 1 FROM agents_auditevent WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END;
"""
DROP = """
DROP TRIGGER IF EXISTS agents_auditevent_no_update;
DROP TRIGGER IF EXISTS agents_auditevent_no_delete;
DROP TRIGGER IF EXISTS agents_auditevent_no_replace;
"""


class Migration(migrations.Migration):
    dependencies = [("agents", "0001_initial")]
    operations = [migrations.RunSQL(CREATE, DROP)]
