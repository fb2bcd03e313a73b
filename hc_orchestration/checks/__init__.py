"""Integrity checks: they block what is downstream, since a broken table must not be scored."""
