"""Training configurations: YAML files, validated."""
