"""Layers of the saliency networks, one a file."""

from keras_recnet.layers.feature_integration import FeatureIntegration
from keras_recnet.layers.fusion import FUSIONS, Fusion
from keras_recnet.layers.prediction_head import PredictionHead
from keras_recnet.layers.reciprocal_attention import ReciprocalAttention

__all__ = ["FUSIONS", "FeatureIntegration", "Fusion", "PredictionHead", "ReciprocalAttention"]
