"""Files on disk -> batches: `tf.data` pipelines for training and evaluation.

Each name below is loaded when it is first used, so that making lists and groups of files needs no TensorFlow.
"""

import importlib

_HOMES = {
    "Augment": "augment",
    "Group": "groups",
    "Member": "group_lists",
    "Pair": "pairs",
    "PipelineDataError": "pairs",
    "SaliencyGroups": "group_batches",
    "SaliencyPairs": "duts",
    "check_groups": "groups",
    "check_pairs": "checking",
    "find_groups": "groups",
    "find_pairs": "pairs",
    "make_coco_groups": "coco_groups",
    "read_group_list": "group_lists",
    "read_groups": "groups",
    "read_image": "reading",
    "read_pair": "reading",
    "single_images": "groups",
    "split_groups": "groups",
    "stage_bars": "progress_bars",
    "with_foreign": "group_lists",
    "write_group_folders": "group_folders",
    "write_group_list": "group_lists",
    "write_groups": "groups",
}

__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
