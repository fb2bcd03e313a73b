"""What `hc doctor` looks at: each module examines one side of a deployment and gives findings."""
