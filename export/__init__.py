"""Exports: a model to an artifact, and the proof that the artifact computes the same."""
