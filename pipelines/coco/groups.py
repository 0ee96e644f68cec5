"""Make training groups from COCO as in the RCAU paper: globally similar images of the same category."""

import contextlib
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_recnet.files import atomic_path, link, sha256
from keras_recnet.pipelines.checks import for_all
from keras_recnet.pipelines.coco.annotations import decode, select
from keras_recnet.pipelines.coco.feature_store import FeatureStore
from keras_recnet.pipelines.coco.similarity import descriptors, nearest
from keras_recnet.pipelines.group_folders import file_name_of, write_mask
from keras_recnet.pipelines.group_lists import Member, write_group_list
from keras_recnet.pipelines.pair_reading import PipelineDataError, same_proportions

# Called as progress(stage, done, total).
StageProgress = Callable[[str, int, int], object]

GIST_FEATURES = 512


@dataclass(frozen=True)
class CocoGroups:
    """The result of `make_coco_groups`.

    Attributes:
        list: the CSV file.
        groups: category → number of its groups.
        images: number of images in them.
        masks: number of masks: an image has one for each of its categories.
        problems: images and annotations that could not be used, with the reason, one line each.
        notes: categories with too few images.
    """

    list: Path
    groups: dict[str, int]
    images: int
    masks: int
    problems: list[str]
    notes: list[str]


def make_coco_groups(
    annotations: str | os.PathLike,
    images: str | os.PathLike,
    out: str | os.PathLike,
    *,
    categories: Sequence[str] | None = None,
    group_size: int = 5,
    most_images: int | None = 9213,
    most_groups: int | None = None,
    area: tuple[float, float] = (0.05, 0.7),
    category_map: str | os.PathLike | None = None,
    seed: int = 0,
    workers: int = 2,
    progress: StageProgress | None = None,
) -> CocoGroups:
    """Make training groups from annotations in COCO format.

    The paper: "training groups are randomly selected from a subset of COCO dataset (which has 9213 images …) using the
    global similarity (Gist and Lab color histogram features)", groups of 5 as in Wei et al. 2017. The paper does not
    say how. *(Ours)*: a group is an image and the most similar images of the same category (`similarity.descriptors`),
    with one group per image and category; groups of the same images count once. `most_groups` draws from these groups.

    Writes `OUT/groups.csv` (`group,name,split,category`), `OUT/images/CATEGORY/NAME.jpg` (links to the images, or
    copies), `OUT/masks/CATEGORY/NAME.png` (the union of the category's instances) and `OUT/features.npz`.
    `read_groups("OUT/groups.csv", "OUT/images", "OUT/masks")` reads these groups; `find_groups("OUT")` reads one group
    per category. An interrupted run resumes when repeated; with other categories, sizes or seeds, features are reused.

    Args:
        annotations: JSON file in COCO format.
        images: folder of the images.
        out: folder to write to.
        categories: names of categories; None uses all.
        group_size: images per group, 2 or more.
        most_images: number of images to draw if there are more; None uses all.
        most_groups: number of groups to draw if there are more; None uses all.
        area: smallest and largest fraction of an image that a category may cover, because tiny objects and objects that
            fill the image are not salient *(ours)*.
        category_map: CSV file `name,category` with the category in the list for some of COCO's names, such as
            `sheep,bovid`; the other names stay as they are. Groups of the same category provide no distractors for each
            other.
        seed: seed of both draws, 0 or more.
        workers: processes that compute features.
        progress: called as `progress(stage, done, total)`; see `stage_bars`.

    Returns:
        A `CocoGroups`; its `problems` name missing and unreadable images and unusable annotations.

    Raises:
        ModuleNotFoundError: if pycocotools is not installed.
        PipelineDataError: if no groups can be made: malformed annotations, unknown categories (naming similar ones),
            no images, or `out` contains groups made from other annotations.
        ValueError: if an argument is out of range.
    """
    if group_size < 2 or workers < 1 or not 0 <= area[0] <= area[1] <= 1:
        raise ValueError(
            "`group_size` must be 2 or more, `workers` 1 or more and `area` be (least, largest) in 0…1. "
            f"Received: group_size={group_size}, workers={workers}, area={area}"
        )
    out = Path(out)
    listed_as = {} if category_map is None else _read_category_map(category_map)
    report = progress or (lambda stage, done, total: None)
    selection = select(
        annotations,
        images,
        categories=categories,
        area=area,
        most_images=most_images,
        seed=seed,
        progress=lambda done, total: report("annotations", done, total),
    )
    _claim(out, annotations)

    store = FeatureStore(out / "features.npz", workers=workers)
    files = {name: image.path for name, image in selection.images.items()}
    store.compute(files, progress=lambda done, total: report("features", done, total))
    problems = selection.problems + list(store.problems.values())
    names = []
    for name, image in selection.images.items():
        if name in store.problems:
            continue
        size = store.size(name)
        # Annotations refer to the stored image, before its EXIF orientation is applied.
        if same_proportions(size, image.size) or same_proportions(size[::-1], image.size):
            names.append(name)
        else:
            problems.append(
                f"{image.path}: does not have the proportions {image.size[0]}×{image.size[1]} of its annotations"
            )
    selection.keep(names)
    masks = _write_masks(selection, out, workers, lambda done, total: report("masks", done, total))

    groups, notes = _groups(selection, store, group_size)
    if most_groups is not None and len(groups) > most_groups:
        chosen = np.random.default_rng(seed).permutation(len(groups))[:most_groups]
        groups = [groups[i] for i in sorted(chosen)]
    if not groups:
        raise PipelineDataError(
            [*problems, f"{annotations}: no category has two images to group"],
            "Choose more images or other categories.",
        )
    members, counts = [], {}
    for category, group in groups:
        counts[category] = counts.get(category, 0) + 1
        folder = file_name_of(category)
        label = f"{folder}-{counts[category]:05}"
        listed = listed_as.get(category, category)
        members += [Member(label, f"{folder}/{name}", "train", category=listed) for name in group]
    write_group_list(out / "groups.csv", members)
    images_used = len({name for _, group in groups for name in group})
    return CocoGroups(out / "groups.csv", counts, images_used, masks, problems, notes)


@contextlib.contextmanager
def stage_bars() -> Iterator[StageProgress | None]:
    """Show a progress bar per stage on stderr; yield None and show nothing if stderr is not a terminal.

    Example:
        >>> with stage_bars() as progress:
        ...     make_coco_groups(annotations, images, out, progress=progress)
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks = {}

        def advance(stage, done, total):
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done)

        yield advance


def _read_category_map(path):
    """Return COCO's name → category in the list, from a CSV file."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PipelineDataError([f"{path}: cannot be read ({error})"], "Pass a CSV file in UTF-8.") from None
    names = {(line.get("name") or "").strip(): (line.get("category") or "").strip() for line in lines}
    if not names or not all((*names, *names.values())):
        raise PipelineDataError(
            [f"{path}: must have the columns name and category, and both in every line"],
            "Write lines such as sheep,bovid below the first line, name,category.",
        )
    return names


def _claim(out, annotations):
    """Record the annotations that the folder was made from, as masks of other annotations must not be reused."""
    digest = sha256(annotations)
    path = out / "source.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        known = None
    if known not in (None, digest):
        raise PipelineDataError(
            [f"{out}: contains groups made from annotations other than {annotations}"], "Choose a new folder."
        )
    if known is None:
        with atomic_path(path) as temporary:
            content = {"annotations": Path(annotations).name, "sha256": digest}
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_masks(selection, out, workers, progress):
    tasks = [(category, name) for category, masks in selection.masks.items() for name in masks]

    def write(task):
        category, name = task
        place, image = f"{file_name_of(category)}/{name}", selection.images[name]
        link(image.path, out / "images" / f"{place}{image.path.suffix}")
        target = out / "masks" / f"{place}.png"
        if not target.exists():
            write_mask(decode(selection.masks[category][name]), target)

    for_all(write, tasks, workers, progress)
    return len(tasks)


def _groups(selection, store, group_size):
    """Return (category, names) of every group, and notes."""
    names = list(selection.images)
    features = np.stack([store.features(name) for name in names]) if names else np.empty((0, 2 * GIST_FEATURES))
    vectors = descriptors(features[:, :GIST_FEATURES], features[:, GIST_FEATURES:]) if names else features
    row_of = {name: row for row, name in enumerate(names)}
    groups, too_few, smaller = [], [], []
    for category, masks in selection.masks.items():
        own = sorted(masks)
        if len(own) < 2:
            too_few.append(f"{category} ({len(own)})")
            continue
        if len(own) < group_size:
            smaller.append(f"{category} ({len(own)})")
        neighbors = nearest(vectors[[row_of[name] for name in own]], min(group_size, len(own)) - 1)
        seen = set()
        for row, others in enumerate(neighbors):
            members = (row, *others.tolist())
            if frozenset(members) not in seen:
                seen.add(frozenset(members))
                groups.append((category, [own[i] for i in members]))
    notes = []
    if smaller:
        notes.append(f"categories with fewer than {group_size} images, each one small group: {', '.join(smaller)}")
    if too_few:
        notes.append(f"categories with too few images for a group: {', '.join(too_few)}")
    return groups, notes
