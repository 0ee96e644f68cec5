"""Layers of the saliency networks, one per file."""

from keras_recnet.layers.consensus import ConsensusMaps, ImageSummary, UnitLength
from keras_recnet.layers.conv_gru_cell import ConvGRUCell
from keras_recnet.layers.feature_distillation import FeatureDistillation
from keras_recnet.layers.feature_integration import FeatureIntegration
from keras_recnet.layers.frozen_statistics import FrozenStatistics
from keras_recnet.layers.fusion import FUSIONS, Fusion
from keras_recnet.layers.group_classifier import GroupClassifier
from keras_recnet.layers.group_correction import GroupCorrection
from keras_recnet.layers.group_normalization import ChannelGroupNormalization
from keras_recnet.layers.group_rnn import GroupRNN
from keras_recnet.layers.groups import BroadcastGroups, MergeGroups, SplitGroups, SumGroups
from keras_recnet.layers.prediction_head import PredictionHead
from keras_recnet.layers.rcau_cell import RCAUCell
from keras_recnet.layers.reciprocal_attention import ReciprocalAttention

__all__ = [
    "FUSIONS",
    "BroadcastGroups",
    "ChannelGroupNormalization",
    "ConsensusMaps",
    "ConvGRUCell",
    "FeatureDistillation",
    "FeatureIntegration",
    "FrozenStatistics",
    "Fusion",
    "GroupClassifier",
    "GroupCorrection",
    "GroupRNN",
    "ImageSummary",
    "MergeGroups",
    "PredictionHead",
    "RCAUCell",
    "ReciprocalAttention",
    "SplitGroups",
    "SumGroups",
    "UnitLength",
]
