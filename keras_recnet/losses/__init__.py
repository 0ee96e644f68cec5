"""Losses: on the logits of one image (`saliency`) and of a group of images (`groups`)."""

from keras_recnet.losses.cosaliency import (
    CoPerceptualLoss,
    CoSaliencyLoss,
    StartCoPerceptual,
    co_perceptual,
    perceptual_features,
)
from keras_recnet.losses.saliency import (
    BranchCrossEntropy,
    Cooperative,
    Dice,
    IoU,
    SaliencyLoss,
    StructureCrossEntropy,
    StructureIoU,
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
    "BranchCrossEntropy",
    "CoPerceptualLoss",
    "CoSaliencyLoss",
    "Cooperative",
    "Dice",
    "IoU",
    "SaliencyLoss",
    "StartCoPerceptual",
    "StructureCrossEntropy",
    "StructureIoU",
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
