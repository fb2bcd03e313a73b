"""Notes and gold spans: reading them from files, checking them, and giving a corpus an identity."""
