"""Evaluation, tracking and provenance of clinical NER models as Dagster assets."""
