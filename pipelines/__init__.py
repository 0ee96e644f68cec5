"""Training data: pairs and groups of images and masks on disk, read into batches."""

from keras_recnet import _lazy

# `__init__.pyi` lists the public names. Each is imported on first use, so that finding files needs no TensorFlow.
__getattr__, __dir__, __all__ = _lazy.attach(__name__)
