"""Tests of hc_orchestration.corpora."""
