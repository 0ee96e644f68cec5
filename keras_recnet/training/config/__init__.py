"""Training configurations: YAML files and their validation."""
