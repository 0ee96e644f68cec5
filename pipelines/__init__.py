"""Files on disk -> batches: `tf.data` pipelines for training and evaluation.

Each name below is loaded when it is first used, so that making lists and groups of files needs no TensorFlow.
"""

from typing import TYPE_CHECKING

from keras_recnet import _lazy

if TYPE_CHECKING:
    from keras_recnet.pipelines.augment import Augment as Augment
    from keras_recnet.pipelines.checks import check_pairs as check_pairs
    from keras_recnet.pipelines.coco.groups import make_coco_groups as make_coco_groups
    from keras_recnet.pipelines.group_folders import write_group_folders as write_group_folders
    from keras_recnet.pipelines.group_lists import Member as Member
    from keras_recnet.pipelines.group_lists import read_group_list as read_group_list
    from keras_recnet.pipelines.group_lists import with_distractors as with_distractors
    from keras_recnet.pipelines.group_lists import write_group_list as write_group_list
    from keras_recnet.pipelines.groups import Group as Group
    from keras_recnet.pipelines.groups import check_groups as check_groups
    from keras_recnet.pipelines.groups import find_groups as find_groups
    from keras_recnet.pipelines.groups import read_groups as read_groups
    from keras_recnet.pipelines.groups import single_images as single_images
    from keras_recnet.pipelines.groups import split_groups as split_groups
    from keras_recnet.pipelines.groups import write_groups as write_groups
    from keras_recnet.pipelines.pair_reading import read_image as read_image
    from keras_recnet.pipelines.pair_reading import read_pair as read_pair
    from keras_recnet.pipelines.pairs import Pair as Pair
    from keras_recnet.pipelines.pairs import PipelineDataError as PipelineDataError
    from keras_recnet.pipelines.pairs import find_pairs as find_pairs
    from keras_recnet.pipelines.progress_bars import stage_bars as stage_bars
    from keras_recnet.pipelines.saliency_groups import SaliencyGroups as SaliencyGroups
    from keras_recnet.pipelines.saliency_pairs import SaliencyPairs as SaliencyPairs

_NAMES = {
    "Augment": "augment",
    "Group": "groups",
    "Member": "group_lists",
    "Pair": "pairs",
    "PipelineDataError": "pairs",
    "SaliencyGroups": "saliency_groups",
    "SaliencyPairs": "saliency_pairs",
    "check_groups": "groups",
    "check_pairs": "checks",
    "find_groups": "groups",
    "find_pairs": "pairs",
    "make_coco_groups": "coco.groups",
    "read_group_list": "group_lists",
    "read_groups": "groups",
    "read_image": "pair_reading",
    "read_pair": "pair_reading",
    "single_images": "groups",
    "split_groups": "groups",
    "stage_bars": "progress_bars",
    "with_distractors": "group_lists",
    "write_group_folders": "group_folders",
    "write_group_list": "group_lists",
    "write_groups": "groups",
}

__getattr__, __dir__, __all__ = _lazy.attach(__name__, _NAMES)
