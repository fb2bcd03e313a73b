"""Tests of hc_orchestration.extraction."""
