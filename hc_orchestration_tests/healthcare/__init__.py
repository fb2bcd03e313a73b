"""Tests of hc_orchestration.healthcare."""
