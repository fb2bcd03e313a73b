"""MLflow as a projection of evaluation records; the only package that imports mlflow."""
