"""The assets: each reads, calls one function of the packages below, and returns what happened."""
