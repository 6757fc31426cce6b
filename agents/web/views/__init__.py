"""Views: get the object, bind the form, call one operation, answer."""

from __future__ import annotations
