"""What assets are given: the workspace, MLflow, and the frame of one step of an evaluation."""
