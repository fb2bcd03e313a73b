"""The model catalogue, the store of model files, fingerprints, and the loaders."""
