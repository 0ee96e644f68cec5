"""Prediction: image files and arrays in, saliency and co-saliency maps out."""
