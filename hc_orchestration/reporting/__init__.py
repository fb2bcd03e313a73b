"""How results are shown: Dagster metadata, tables for people, the comparison of models."""
