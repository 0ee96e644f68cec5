"""Salient object detection and co-saliency detection for Keras.

Importing this package imports neither Keras nor TensorFlow: `__init__.pyi` lists the public names, and each is imported
on first use.
"""

from pathlib import Path

from keras_recnet import _lazy

__version__ = "0.1.0"

# An installed package contains `pipelines` and `export`. In a checkout they are next to it (see setup.py).
if not (Path(__file__).parent / "pipelines").is_dir():
    __path__.append(str(Path(__file__).parents[1]))

__getattr__, __dir__, __all__ = _lazy.attach(__name__)
