"""Layers of the saliency networks, one per file."""

from keras_recnet.layers.conv_gru_cell import ConvGRUCell
from keras_recnet.layers.feature_integration import FeatureIntegration
from keras_recnet.layers.frozen_statistics import FrozenStatistics
from keras_recnet.layers.fusion import FUSIONS, Fusion
from keras_recnet.layers.group_gate import GroupGate
from keras_recnet.layers.group_rnn import GroupRNN
from keras_recnet.layers.groups import BroadcastGroups, MergeGroups, SplitGroups
from keras_recnet.layers.mean_cell import MeanCell
from keras_recnet.layers.prediction_head import PredictionHead
from keras_recnet.layers.rcau_cell import RCAUCell
from keras_recnet.layers.reciprocal_attention import ReciprocalAttention
from keras_recnet.layers.salient_descriptor import SalientDescriptor
from keras_recnet.layers.with_mean_cell import WithMeanCell

__all__ = [
    "FUSIONS",
    "BroadcastGroups",
    "ConvGRUCell",
    "FeatureIntegration",
    "FrozenStatistics",
    "Fusion",
    "GroupGate",
    "GroupRNN",
    "MeanCell",
    "MergeGroups",
    "PredictionHead",
    "RCAUCell",
    "ReciprocalAttention",
    "SalientDescriptor",
    "SplitGroups",
    "WithMeanCell",
]
