"""Predict saliency and co-saliency maps of image files and arrays."""
