"""The built-in agent class."""

from __future__ import annotations

from django.db import migrations


def add(apps, schema_editor):
    apps.get_model("agents", "AgentClass").objects.update_or_create(
        slug="agent-smith",
        defaults={
            "title": "Agent Smith",
            "description": "The general-purpose class: the construct's tools and nothing else.",
            "builtin": True,
            "source": "builtin:agent-smith",
            "runtimes": ["claude", "shell"],
            "enabled": True,
        },
    )


class Migration(migrations.Migration):
    dependencies = [("agents", "0002_append_only_audit")]
    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
