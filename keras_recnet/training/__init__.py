"""A validated YAML configuration → a fitted model, its checkpoints and a preset folder."""
