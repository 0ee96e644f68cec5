"""Training from a YAML configuration to checkpoints, logs and a preset."""
