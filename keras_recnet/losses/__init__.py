"""Losses: for the logits of single images (`saliency`) and of groups of images (`cosaliency`)."""

from keras_recnet.losses.cosaliency import (
    CoPerceptualLoss,
    CoSaliencyLoss,
    StartCoPerceptual,
    co_perceptual,
    perceptual_features,
)
from keras_recnet.losses.saliency import (
    SaliencyLoss,
    absolute_error,
    branch_cross_entropy,
    cooperative,
    dice,
    iou,
    split_branches,
    structure_cross_entropy,
    structure_iou,
    structure_weight,
)

__all__ = [
    "CoPerceptualLoss",
    "CoSaliencyLoss",
    "SaliencyLoss",
    "StartCoPerceptual",
    "absolute_error",
    "branch_cross_entropy",
    "co_perceptual",
    "cooperative",
    "dice",
    "iou",
    "perceptual_features",
    "split_branches",
    "structure_cross_entropy",
    "structure_iou",
    "structure_weight",
]
