"""Time and memory needed to make training groups from 9,213 images.

    python benchmarks/coco_groups.py DUTS-TR/images DUTS-TR/masks

The images replace those of COCO: each mask is the only instance of a random category. No image is excluded by the size
of its object (`area`), so the number is exact. `memory` is an upper bound of the peak of all processes: the main
process, plus `--workers` times the largest worker. `CPU` is the CPU time of all processes, which depends little on the
load of the machine.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pycocotools import mask as rle

from keras_recnet.pipelines import find_pairs, make_coco_groups, read_pair


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="folder of images")
    parser.add_argument("masks", help="folder of masks")
    parser.add_argument("--count", type=int, default=9213, help="images (default: 9213)")
    parser.add_argument("--categories", type=int, default=65, help="categories (default: 65)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", help="keep the groups in this folder")
    arguments = parser.parse_args()
    pairs = find_pairs(arguments.images, arguments.masks)[: arguments.count]
    with tempfile.TemporaryDirectory() as folder:
        annotations = Path(folder) / "annotations.json"
        annotations.write_text(json.dumps(fake_annotations(pairs, arguments.categories)))
        before, start = peak(), busy()
        stages = Stages()
        result = make_coco_groups(
            annotations,
            arguments.images,
            arguments.out or Path(folder) / "groups",
            most_images=None,
            area=(0, 1),
            workers=arguments.workers,
            progress=stages,
        )
        stages.end()
    print(f"{result.images} images, {sum(result.groups.values())} groups, {len(result.problems)} problems")
    print(f"{'stage':<16}{'seconds':>10}")
    for stage, seconds in stages.seconds.items():
        print(f"{stage:<16}{seconds:>10.1f}")
    print(f"{'all':<16}{sum(stages.seconds.values()):>10.1f}, CPU {busy() - start:.1f}")
    worker = peak(resource.RUSAGE_CHILDREN)
    print(f"memory: {peak() + arguments.workers * worker:.2f} GB ({worker:.2f} per worker, {before:.2f} at start)")


class Stages:
    """Seconds per stage, from its start to the start of the next."""

    def __init__(self):
        self.seconds, self.stage, self.start = {}, "annotations", time.perf_counter()

    def __call__(self, stage, done, total):
        if stage != self.stage:
            self.end()
            self.stage = stage
        if done == total and stage == "masks":
            self.end()
            self.stage = "neighbors"

    def end(self):
        now = time.perf_counter()
        self.seconds[self.stage] = self.seconds.get(self.stage, 0) + now - self.start
        self.start = now


def fake_annotations(pairs, categories):
    random = np.random.default_rng(0)
    images, annotations = [], []
    for number, pair in enumerate(pairs, start=1):
        image, mask = read_pair(pair)
        if mask.shape != image.shape[:2]:
            continue
        encoded = rle.encode(np.asfortranarray(mask > 127).astype(np.uint8))
        encoded["counts"] = encoded["counts"].decode("ascii")
        height, width = mask.shape
        images.append({"id": number, "file_name": pair.image.name, "width": width, "height": height})
        category = int(random.integers(categories)) + 1
        annotations.append({"id": number, "image_id": number, "category_id": category, "segmentation": encoded})
    names = [{"id": number, "name": f"category {number}"} for number in range(1, categories + 1)]
    return {"images": images, "annotations": annotations, "categories": names}


def busy():
    """CPU seconds of this process and of its finished workers."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak(who=resource.RUSAGE_SELF):
    """Peak memory in GB."""
    return resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


if __name__ == "__main__":
    main()
