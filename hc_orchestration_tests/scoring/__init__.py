"""Tests of hc_orchestration.scoring."""
