"""Time and memory that training groups of 9,213 images take.

    python benchmarks/coco_groups.py DUTS-TR/images DUTS-TR/masks

The images stand in for COCO's: each mask becomes the one instance of a category drawn at random. Images that COCO's own
groups would leave out for their size are kept (`area`), so that the number is exact. `memory` is the peak of the first
process and of the workers together, at most: the largest worker counts as often as there are workers. `processor` is
the time of all processes, which a loaded machine changes little.
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
        annotations.write_text(json.dumps(stand_in(pairs, arguments.categories)))
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
    print(f"{'all':<16}{sum(stages.seconds.values()):>10.1f}, processor {busy() - start:.1f}")
    worker = peak(resource.RUSAGE_CHILDREN)
    print(f"memory: {peak() + arguments.workers * worker:.2f} GB ({worker:.2f} a worker, {before:.2f} at start)")


class Stages:
    """Seconds from the beginning of a stage to that of the next."""

    def __init__(self):
        self.seconds, self.stage, self.start = {}, "annotations", time.perf_counter()

    def __call__(self, stage, done, total):
        if stage != self.stage:
            self.end()
            self.stage = stage
        if done == total and stage == "masks":
            self.end()
            self.stage = "neighbours"

    def end(self):
        now = time.perf_counter()
        self.seconds[self.stage] = self.seconds.get(self.stage, 0) + now - self.start
        self.start = now


def stand_in(pairs, categories):
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
    """Seconds of processor time of this process and of its workers that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak(who=resource.RUSAGE_SELF):
    """GB."""
    return resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


if __name__ == "__main__":
    main()
