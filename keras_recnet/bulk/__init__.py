"""Predict millions of images with Ray Data, on one machine or a cluster."""

from keras_recnet.bulk.prediction import predict

__all__ = ["predict"]
