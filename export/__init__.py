"""Export to LiteRT and SavedModel; every exported file is compared with the Keras model."""

from keras_recnet import _lazy

# `__init__.pyi` lists the public names. Each is imported on first use: the clients in `keras_recnet.export.serving`
# need neither Keras nor TensorFlow.
__getattr__, __dir__, __all__ = _lazy.attach(__name__)
