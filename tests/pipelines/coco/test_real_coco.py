"""Groups of real COCO images, and training on them; skipped without the data."""

import io
import json

import numpy as np
import pytest

from keras_recnet.imaging.reading import read
from keras_recnet.pipelines import check_groups, make_coco_groups, read_groups, read_pair


@pytest.fixture(scope="module")
def coco_mini(data_folder):
    folder = data_folder / "COCO-mini"
    if not folder.is_dir():
        pytest.skip("KERAS_RECNET_DATA has no COCO-mini")
    return folder


@pytest.fixture(scope="module")
def groups_of_dogs(coco_mini, tmp_path_factory):
    out = tmp_path_factory.mktemp("coco")
    result = make_coco_groups(
        coco_mini / "instances.json", coco_mini / "images", out, categories=["dog", "pizza"], workers=1
    )
    return out, result


def test_masks_are_the_drawn_polygons_of_the_category(coco_mini, groups_of_dogs):
    from PIL import Image, ImageDraw

    out, result = groups_of_dogs
    groups = read_groups(result.list, out / "images", out / "masks")
    assert result.problems == []
    assert {group.category for group in groups} == {"dog", "pizza"}
    assert all(len(group) == 5 for group in groups)
    check_groups(groups, decode=True, workers=1)
    content = json.loads((coco_mini / "instances.json").read_text(encoding="utf-8"))
    numbers = {entry["file_name"].rpartition(".")[0]: entry["id"] for entry in content["images"]}
    categories = {entry["name"]: entry["id"] for entry in content["categories"]}
    compared = 0
    for pair in dict.fromkeys(pair for group in groups for pair in group.pairs):
        category, name = pair.name.split("/")
        parts = [
            annotation["segmentation"]
            for annotation in content["annotations"]
            if annotation["image_id"] == numbers[name] and annotation["category_id"] == categories[category]
        ]
        if any(isinstance(part, dict) for part in parts):
            continue  # a crowd, run-length encoded
        image, mask = read_pair(pair)
        drawn = Image.new("L", (image.shape[1], image.shape[0]))
        for polygon in (polygon for part in parts for polygon in part):
            ImageDraw.Draw(drawn).polygon(polygon, fill=255)
        drawn, mask = np.asarray(drawn) > 0, mask[..., 0] > 127 if mask.ndim == 3 else mask > 127
        assert image.shape[:2] == read(coco_mini / "images" / f"{name}.jpg").size
        # the two programs differ in pixels on the outline
        assert (drawn & mask).sum() / (drawn | mask).sum() > 0.9
        compared += 1
    assert compared > 10


def test_a_tiny_network_trains_on_groups_of_coco(groups_of_dogs, tmp_path, tiny_backbone):
    from keras_recnet.models import RCAUNet
    from keras_recnet.training.run import train

    out, _ = groups_of_dogs
    stream = io.StringIO()
    overrides = ["init=random", "model.backbone=tiny", "data.synthetic=null", f"data.root={out}", "data.cache=null"]
    overrides += ["epochs=null", "steps=4", "optimizer.warmup_steps=0", "samples=2", "tensorboard=false"]
    preset = train("rcau_smoke", [*overrides, f"output={tmp_path / 'run'}"], stream=stream)
    assert "training groups" in stream.getvalue()
    assert len(list((tmp_path / "run" / "samples").glob("*.png"))) >= 1
    assert all(np.isfinite(weight).all() for weight in RCAUNet.from_preset(preset).get_weights())
