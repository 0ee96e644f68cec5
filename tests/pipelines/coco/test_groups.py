import builtins
import csv
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_recnet.cli import main
from keras_recnet.pipelines import PipelineDataError, find_groups, make_coco_groups, read_groups, stage_bars
from keras_recnet.pipelines.coco.annotations import select

WIDTH, HEIGHT = 40, 30
CATEGORIES = ("dog", "hot dog", "cat")


def box(left, top, right, bottom):
    """Polygon around the pixels in columns left…right − 1 and rows top…bottom − 1."""
    return [[left, top, right, top, right, bottom, left, bottom]]


def counts_of(mask):
    """Uncompressed run lengths, column by column, starting with 0s, as COCO stores crowds."""
    flat = mask.T.ravel().astype(int)
    ends = np.flatnonzero(np.diff(flat)) + 1
    return [0] * int(flat[0]) + np.diff([0, *ends, len(flat)]).tolist()


class CocoSet:
    """A small dataset in COCO format; `save` writes it."""

    def __init__(self, folder):
        self.folder = folder / "photos"
        self.path = folder / "instances.json"
        self.folder.mkdir()
        self.images, self.annotations = [], []
        self.categories = [{"id": 10 * number, "name": name} for number, name in enumerate(CATEGORIES, start=1)]

    def add_image(self, name, color=(0, 0, 0), size=(WIDTH, HEIGHT), file=True):
        number = len(self.images) + 1
        self.images.append({"id": number, "file_name": name, "width": size[0], "height": size[1]})
        if file:
            Image.new("RGB", size, color).save(self.folder / name)
        return number

    def annotate(self, image, category, segmentation, crowd=0):
        self.annotations.append(
            {
                "id": len(self.annotations) + 1,
                "image_id": image,
                "category_id": 10 * (CATEGORIES.index(category) + 1),
                "segmentation": segmentation,
                "iscrowd": crowd,
            }
        )

    def save(self):
        content = {"images": self.images, "annotations": self.annotations, "categories": self.categories}
        self.path.write_text(json.dumps(content))
        return self.path, self.folder


@pytest.fixture
def coco(tmp_path):
    """Six images of dogs (three red, three blue), two of which also show a cat, and one of a hot dog."""
    data = CocoSet(tmp_path)
    for number in range(6):
        image = data.add_image(f"{number}.png", (200, 0, 0) if number % 2 else (0, 0, 200))
        data.annotate(image, "dog", box(4, 5, 20, 15))
        if number in (1, 2):
            data.annotate(image, "cat", box(20, 15, 40, 30))
    data.annotate(data.add_image("6.png"), "hot dog", box(0, 0, 20, 20))
    return data


def make(coco, out, **options):
    return make_coco_groups(*coco.save(), out, **{"group_size": 3, "workers": 1, **options})


def rows(result):
    with open(result.list, newline="") as file:
        return [tuple(row.values()) for row in csv.DictReader(file)]


def test_groups_are_images_of_one_category_that_look_alike(coco, tmp_path):
    out = tmp_path / "out"
    result = make(coco, out)
    assert result.groups == {"dog": 2, "cat": 1}
    assert (result.images, result.masks) == (6, 9)
    assert result.problems == []
    assert result.notes == [
        "categories with fewer than 3 images, each one small group: cat (2)",
        "categories with too few images for a group: hot dog (1)",
    ]
    found = read_groups(result.list, out / "images", out / "masks", split="train")
    assert [(group.name, group.category) for group in found] == [
        ("cat-00001", "cat"),
        ("dog-00001", "dog"),
        ("dog-00002", "dog"),
    ]
    members = [sorted(pair.name for pair in group.pairs) for group in found]
    assert members == [["cat/1", "cat/2"], ["dog/0", "dog/2", "dog/4"], ["dog/1", "dog/3", "dog/5"]]
    with pytest.warns(UserWarning, match="have only one image .*: hot dog"):
        assert [group.name for group in find_groups(out)] == ["cat", "dog", "hot dog"]
    assert rows(result)[0] == ("cat-00001", "cat/1", "train", "cat")


def test_a_mask_is_the_union_of_all_instances_including_crowds(coco, tmp_path):
    crowd = np.zeros((HEIGHT, WIDTH), bool)
    crowd[2:6, 30:38] = True
    coco.annotate(1, "dog", {"size": [HEIGHT, WIDTH], "counts": counts_of(crowd)}, crowd=1)
    coco.annotate(1, "dog", box(10, 10, 24, 20) + box(0, 25, 5, 30))
    coco.annotate(1, "cat", box(0, 0, 30, 30))
    make(coco, tmp_path / "out")
    expected = crowd.copy()
    for left, top, right, bottom in ((4, 5, 20, 15), (10, 10, 24, 20), (0, 25, 5, 30)):
        expected[top:bottom, left:right] = True
    mask = np.asarray(Image.open(tmp_path / "out/masks/dog/0.png"))
    np.testing.assert_array_equal(mask, expected * 255)


def test_images_are_selected_by_the_fraction_that_a_category_covers(coco, tmp_path):
    # The dogs fill 160 of 1200 pixels, the cats a quarter.
    assert make(coco, tmp_path / "a", area=(0.14, 1)).groups == {"cat": 1}
    assert make(coco, tmp_path / "b", area=(0, 0.13334)).groups == {"dog": 2}
    assert make(coco, tmp_path / "c", area=(160 / 1200, 160 / 1200)).groups == {"dog": 2}


def test_the_seed_determines_the_drawn_images_and_groups(coco, tmp_path):
    chosen = {tuple(select(*coco.save(), most_images=4, seed=seed).images) for seed in (0, 1, 2, 3) for _ in range(2)}
    assert len(chosen) > 1
    assert all(len(names) == 4 for names in chosen)
    for seed in (0, 1):
        drawn = [rows(make(coco, tmp_path / f"{seed}{i}", most_groups=1, seed=seed)) for i in range(2)]
        assert drawn[0] == drawn[1]
        assert len({row[0] for row in drawn[0]}) == 1


def test_only_the_requested_categories_are_grouped(coco, tmp_path):
    result = make(coco, tmp_path / "out", categories=["dog"])
    assert result.groups == {"dog": 2}
    assert result.problems == []
    assert os.listdir(tmp_path / "out/masks") == ["dog"]


# Resuming


def test_a_killed_run_resumes(coco, tmp_path):
    for number in range(7, 27):
        coco.annotate(coco.add_image(f"{number}.png", (number, 200, 0)), "dog", box(4, 5, 20, 15))
    arguments = [*map(str, coco.save()), str(tmp_path / "out")]
    code = (
        "import sys\n"
        "from keras_recnet.pipelines import make_coco_groups\n"
        "from keras_recnet.pipelines.coco import feature_store\n"
        "feature_store.FeatureStore.__init__.__kwdefaults__['save_every'] = 0\n"
        "make_coco_groups(*sys.argv[1:], workers=1, progress=lambda *step: print(*step, flush=True))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line == "features 10 27\n":
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "out/groups.csv").exists()
    steps = []
    result = make(coco, tmp_path / "out", progress=lambda *step: steps.append(step))
    features = [step for step in steps if step[0] == "features"]
    assert features[0][1] >= 10
    assert features[-1] == ("features", 27, 27)
    whole = make(coco, tmp_path / "whole")
    assert rows(result) == rows(whole)


def test_existing_masks_and_features_are_reused(coco, tmp_path):
    make(coco, tmp_path / "out", categories=["cat"])
    kept = tmp_path / "out/masks/cat/1.png"
    before = kept.stat().st_mtime_ns
    steps = []
    make(coco, tmp_path / "out", progress=lambda *step: steps.append(step))
    assert kept.stat().st_mtime_ns == before
    assert next(step for step in steps if step[0] == "features") == ("features", 2, 7)


def test_a_folder_made_from_other_annotations_is_refused(coco, tmp_path):
    make(coco, tmp_path / "out")
    coco.annotate(1, "cat", box(0, 0, 30, 30))
    message = r"out: contains groups made from annotations other than .*instances\.json"
    with pytest.raises(PipelineDataError, match=message):
        make(coco, tmp_path / "out")


# Bad input


def test_faulty_images_and_annotations_are_left_out_and_reported(coco, tmp_path):
    coco.annotate(coco.add_image("gone.png", file=False), "dog", box(4, 5, 20, 15))
    broken = coco.add_image("broken.png")
    coco.annotate(broken, "dog", box(4, 5, 20, 15))
    (coco.folder / "broken.png").write_bytes(b"no picture")
    turned = coco.add_image("other size.png")
    coco.annotate(turned, "dog", box(4, 5, 20, 15))
    Image.new("RGB", (WIDTH, 20)).save(coco.folder / "other size.png")
    coco.annotate(99, "dog", box(4, 5, 20, 15))
    coco.annotate(1, "dog", [])
    coco.annotate(1, "dog", {"size": [5, 5], "counts": [25]})
    del coco.annotations[3]["segmentation"]
    result = make(coco, tmp_path / "out", categories=["dog"])
    assert result.groups == {"dog": 2}
    assert result.images == 5
    folder = coco.folder
    problems = [problem.partition(" Known: ")[0] for problem in result.problems]
    assert sorted(problems) == sorted(
        [
            f"{folder / 'gone.png'}: listed in the annotations, but the file does not exist",
            f"{coco.path}: image 99 has no valid file_name, width and height",
            f"{folder / '0.png'}: annotation 14 has no usable segmentation (it is empty)",
            f"{folder / '0.png'}: annotation 15 has no usable segmentation (its size is 5×5, not the image's)",
            f"{folder / '2.png'}: annotation 4 has no usable segmentation (it is missing)",
            f"{folder / 'broken.png'}: not an image of a known format.",
            f"{folder / 'other size.png'}: does not have the proportions 40×30 of its annotations",
        ]
    )


def test_a_map_names_the_categories_of_the_list(coco, tmp_path):
    path = tmp_path / "map.csv"
    path.write_text("name,category\ncat,pet\n dog, pet \nzebra,horse\n")
    result = make(coco, tmp_path / "out", category_map=path)
    assert {(group, category) for group, _, _, category in rows(result)} == {
        ("cat-00001", "pet"),
        ("dog-00001", "pet"),
        ("dog-00002", "pet"),
    }
    assert result.groups == {"dog": 2, "cat": 1}
    path.write_text("name,category\ndog,\n")
    with pytest.raises(PipelineDataError, match=r"map\.csv: must have the columns name and category"):
        make(coco, tmp_path / "other", category_map=path)
    assert not (tmp_path / "other").exists()


def test_two_files_with_the_same_name_are_reported(coco, tmp_path):
    coco.annotate(coco.add_image("0.jpg"), "dog", box(4, 5, 20, 15))
    result = make(coco, tmp_path / "out", categories=["dog"])
    assert result.problems == [f"{coco.folder / '0.jpg'}: would get the same name as {coco.folder / '0.png'}"]


def test_unknown_categories_are_reported_with_similar_names(coco, tmp_path):
    with pytest.raises(PipelineDataError) as caught:
        make(coco, tmp_path / "out", categories=["Hotdog", "dog", "zebra"])
    assert caught.value.problems == [
        f"{coco.path}: has no category 'Hotdog'. Did you mean 'hot dog', 'dog'?",
        f"{coco.path}: has no category 'zebra'. It has cat, dog, hot dog.",
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content", [None, "", "no JSON", "[]", "{}", '{"images": [], "annotations": []}', "[" * 100_000, '{"images": 1}']
)
def test_a_file_without_annotations_is_reported(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(PipelineDataError, match=r"a\.json: not COCO annotations"):
        make_coco_groups(path, tmp_path, tmp_path / "out")


def test_every_malformed_entry_is_reported_with_its_place(coco, tmp_path):
    coco.images[0]["id"] = "1"
    coco.images[1] = ["1.png", 40, 30]
    coco.annotations[2]["image_id"] = [[[3]]]
    del coco.annotations[3]["category_id"]
    coco.categories[0]["name"] = 5
    coco.categories[1] = None
    with pytest.raises(PipelineDataError) as caught:
        make(coco, tmp_path / "out")
    assert caught.value.problems == [
        f"{coco.path}: `id` of images[0] must be an integer. Received: '1'",
        f"{coco.path}: `id` of images[1] must be an integer. Received: ['1.png', 40, 30]",
        f"{coco.path}: `image_id` of annotations[2] must be an integer. Received: [[[3]]]",
        f"{coco.path}: `category_id` of annotations[3] must be an integer. Received: None",
        f"{coco.path}: `name` of categories[0] must be a string. Received: 5",
        f"{coco.path}: `id` of categories[1] must be an integer. Received: None",
        f"{coco.path}: `name` of categories[1] must be a string. Received: None",
    ]


@pytest.mark.parametrize(
    "entry",
    [
        *({"width": value} for value in ("40", [40], float("nan"), float("inf"), 0, None)),
        *({"file_name": value} for value in (5, ["0.png"], "", ".")),
    ],
)
def test_an_image_with_malformed_values_is_left_out_and_reported(coco, tmp_path, entry):
    coco.images[0].update(entry)
    result = make(coco, tmp_path / "out", categories=["dog"])
    assert result.problems == [f"{coco.path}: image 1 has no valid file_name, width and height"]
    assert result.images == 5


@pytest.mark.parametrize("name", ["a" * 300 + ".png", "\0.png"])
def test_an_impossible_file_name_is_reported_as_missing(coco, tmp_path, name):
    coco.images[0]["file_name"] = name
    (problem,) = make(coco, tmp_path / "out", categories=["dog"]).problems
    assert problem.endswith("listed in the annotations, but the file does not exist")


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        *(
            (value, "a polygon must be a list of finite numbers x, y, x, y, …")
            for value in (
                [[4, 5, 20, 5, 20, 15, 4]],
                [[4, 5, 20, 5, 20, float("nan")]],
                [[4, 5, 20, 5, 20, 1e9]],
                [[4, 5, 20, 5, 20, 10**400]],
                [[[4, 5], [20, 5], [20, 15]]],
                [4, 5, 20, 5, 20, 15],
                [[4, 5, 20, 5, 20, "15"]],
                [[]],
            )
        ),
        *(
            ({"size": [HEIGHT, WIDTH], "counts": value}, "its run lengths do not add up to the size of the image")
            for value in ([10, 20], [1, 1200], [-1, 1201], [600.5, 599.5], ["1200"], [], "", "hello", "ooo", [[1200]])
        ),
        ({"size": [HEIGHT, WIDTH], "counts": 5}, "'int' object is not iterable"),
        ({"size": [HEIGHT, WIDTH]}, "it is missing"),
        ("polygon", "string indices must be integers, not 'str'"),
        (7, "'int' object is not subscriptable"),
    ],
)
def test_a_malformed_segmentation_is_left_out_and_reported(coco, tmp_path, segmentation, reason):
    coco.annotations[0]["segmentation"] = segmentation
    result = make(coco, tmp_path / "out", categories=["dog"])
    assert result.problems == [f"{coco.folder / '0.png'}: annotation 1 has no usable segmentation ({reason})"]
    assert result.images == 5


def test_compressed_run_lengths_are_read(coco, tmp_path):
    from pycocotools import mask as rle

    expected = np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.5
    expected[:, 10:25] = True  # a run that needs several characters
    counts = rle.encode(np.asfortranarray(expected, np.uint8))["counts"].decode()
    coco.annotations[0]["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": counts}
    make(coco, tmp_path / "out", area=(0, 1))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/masks/dog/0.png")), expected * 255)


def test_an_empty_selection_raises_an_error(coco, tmp_path):
    with pytest.raises(PipelineDataError, match="no image of these categories is left"):
        make(coco, tmp_path / "out", area=(0.9, 1))
    with pytest.raises(PipelineDataError, match="no category has two images"):
        make(coco, tmp_path / "out", categories=["hot dog"])
    annotations, _ = coco.save()
    with pytest.raises(PipelineDataError, match="nowhere: the folder of images does not exist"):
        make_coco_groups(annotations, tmp_path / "nowhere", tmp_path / "out")


@pytest.mark.parametrize("options", [{"group_size": 1}, {"workers": 0}, {"area": (0.5, 0.1)}])
def test_arguments_out_of_range_raise_errors(coco, tmp_path, options):
    with pytest.raises(ValueError, match="Received: group_size="):
        make(coco, tmp_path / "out", **options)


def hide_pycocotools(monkeypatch):
    original = builtins.__import__

    def without(name, *arguments):
        if name.startswith("pycocotools"):
            raise ModuleNotFoundError(f"No module named {name!r}", name="pycocotools")
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)


def test_missing_pycocotools_is_reported_with_the_install_command(coco, tmp_path, monkeypatch):
    hide_pycocotools(monkeypatch)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "keras-recnet\[coco\]"'):
        make(coco, tmp_path / "out")


# The command


def test_the_command_reports_groups_and_skipped_images(coco, tmp_path, capfd):
    arguments = ["coco-groups", *map(str, coco.save()), "-o", str(tmp_path / "out"), "--group-size", "3", "--jobs", "1"]
    assert main.main(arguments) == 0
    lines = capfd.readouterr().err.splitlines()
    assert lines == [
        "Note: categories with fewer than 3 images, each one small group: cat (2)",
        "Note: categories with too few images for a group: hot dog (1)",
        f"3 groups of 2 categories, 6 images -> {tmp_path / 'out/groups.csv'}",
    ]
    (coco.folder / "0.png").unlink()
    assert main.main([*arguments, "--categories", "dog, cat"]) == 1
    assert capfd.readouterr().err.splitlines()[-2:] == [
        "1 left out:",
        f"  {coco.folder / '0.png'}: listed in the annotations, but the file does not exist",
    ]


def test_the_command_reports_bad_input(coco, tmp_path, capfd, monkeypatch):
    arguments = ["coco-groups", *map(str, coco.save()), "-o", str(tmp_path / "out")]
    assert main.main([*arguments, "--categories", "dogs"]) == 2
    assert "Did you mean 'dog'?" in capfd.readouterr().err
    assert main.main([*arguments, "--area", "0.7", "0.1"]) == 2
    assert "the first number must not exceed the second. Received: (0.7, 0.1)" in capfd.readouterr().err
    hide_pycocotools(monkeypatch)
    assert main.main(arguments) == 2
    assert 'pip install "keras-recnet[coco]"' in capfd.readouterr().err


def test_progress_bars_are_shown_only_on_a_terminal(monkeypatch, capfd):
    with stage_bars() as progress:
        assert progress is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with stage_bars() as progress:
        progress("features", 1, 2)
        progress("features", 2, 2)
    assert "features" in capfd.readouterr().err
