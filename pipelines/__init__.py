"""Files on disk -> batches: `tf.data` pipelines for training and evaluation."""

from keras_recnet.pipelines.augment import Augment
from keras_recnet.pipelines.checking import check_pairs
from keras_recnet.pipelines.duts import SaliencyPairs
from keras_recnet.pipelines.pairs import Pair, PipelineDataError, find_pairs
from keras_recnet.pipelines.reading import read_image, read_pair

__all__ = [
    "Augment",
    "Pair",
    "PipelineDataError",
    "SaliencyPairs",
    "check_pairs",
    "find_pairs",
    "read_image",
    "read_pair",
]
