"""Tests of hc_orchestration.models."""
