"""Tests of hc_orchestration, one folder for each of its packages."""
