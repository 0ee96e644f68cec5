import shutil
import threading

import numpy as np
import pytest

import keras_recnet
from keras_recnet import presets
from keras_recnet.errors import ImageError, PresetError
from keras_recnet.imaging.reading import read
from keras_recnet.imaging.resizing import resize_map
from keras_recnet.inference.group_engines import stream
from keras_recnet.inference.group_predictor import GroupPredictor
from keras_recnet.inference.group_stream import empty_state, group_orders
from keras_recnet.models import RCAUNet


@pytest.fixture(scope="module")
def predictor(tiny_group_preset):
    return GroupPredictor(tiny_group_preset)


@pytest.fixture
def photos(photographs):
    return photographs[:4]


def test_maps_have_the_size_of_their_images(predictor, photos):
    maps = predictor(photos)
    assert [saliency.shape for saliency in maps] == [read(photo).size for photo in photos]
    assert {saliency.dtype for saliency in maps} == {np.dtype("float32")}
    assert all(saliency.min() >= 0 and saliency.max() <= 1 for saliency in maps)
    # a map depends on the other images of the group
    assert np.abs(predictor(photos[:1])[0] - maps[0]).max() > 1e-3


def test_both_engines_agree_for_several_orders(predictor, tiny_group_preset, photos):
    other = GroupPredictor(tiny_group_preset, engine="keras")
    assert str(other).startswith("tiny_group, keras 64×64")
    for one, two in zip(predictor.map(photos, orders=3), other.map(photos, orders=3), strict=True):
        assert np.abs(one.saliency - two.saliency).mean() < 2e-3
        assert np.abs(one.variance - two.variance).mean() < 1e-3


def test_map_over_several_orders_equals_stream_with_the_model(predictor, tiny_group_model):
    images = list(np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype="uint8"))
    expected = stream(tiny_group_model, images, orders=3, seed=5)
    for one, two in zip(predictor.map(images, orders=3, seed=5), expected, strict=True):
        assert np.abs(one.saliency - two.saliency).mean() < 2e-3
        assert np.abs(one.variance - two.variance).mean() < 1e-3


def test_int8_runs_its_own_file(tiny_group_preset, predictor, photos, tmp_path):
    folder = shutil.copytree(tiny_group_preset, tmp_path / "preset")
    (folder / "model.tflite").rename(folder / "model.int8.tflite")
    presets.write_config(folder, presets.find(folder).config, ["model.int8.tflite", "model.weights.h5"])
    int8 = GroupPredictor(folder, precision="int8")
    assert str(int8).startswith("preset, litert int8 64×64, CPU, ")
    assert (int8.precision, predictor.precision) == ("int8", "float16")
    for received, expected in zip(int8(photos), predictor(photos), strict=True):
        np.testing.assert_array_equal(received, expected)


def test_a_missing_int8_file_is_reported_with_what_writes_it(tiny_group_preset):
    with pytest.raises(PresetError) as error:
        GroupPredictor(tiny_group_preset, precision="int8")
    assert str(error.value) == (
        f"{tiny_group_preset}: int8 cannot be used: the preset 'tiny_group' has no model.int8.tflite "
        f"(keras_recnet.export.add_to_preset({str(tiny_group_preset)!r}, precision='int8', calibration=PHOTOS) "
        f"writes it)."
    )


def test_stored_and_recomputed_features_give_the_same_maps(tiny_group_preset, predictor, photos, monkeypatch):
    expected = predictor(photos)
    for keep in (0, 2):
        again = GroupPredictor(tiny_group_preset, keep_features=keep)(photos)
        for one, two in zip(again, expected, strict=True):
            np.testing.assert_array_equal(one, two)

    def full(*arguments, **options):
        raise OSError("no room")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    np.testing.assert_array_equal(predictor(photos)[0], expected[0])


def test_an_unreadable_image_is_left_out(predictor, photos):
    with pytest.raises(ImageError, match="not an image"):
        predictor([*photos, b"text" * 10])
    first, error, *others = predictor.map([photos[0], b"text" * 10, *photos[1:]], errors="return")
    assert isinstance(error, ImageError)
    for received, expected in zip((first, *others), predictor(photos), strict=True):
        np.testing.assert_array_equal(received.saliency, expected)


def test_threads_share_one_predictor(predictor, photos):
    expected, results = predictor(photos), []
    threads = [threading.Thread(target=lambda: results.append(predictor(photos))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    for maps in results:
        np.testing.assert_array_equal(maps[-1], expected[-1])


def test_errors_explain_invalid_arguments(predictor, tiny_group_preset, photos):
    for wrong in ({"errors": "ignore"}, {"orders": 0}):
        with pytest.raises(ValueError, match="Received"):
            list(predictor.map(photos, **wrong))
    with pytest.raises(ValueError, match="A group needs at least one image"):
        predictor([])
    with pytest.raises(PresetError, match="an RCAUNet"):
        GroupPredictor("recnet_lite0")
    with pytest.raises(PresetError, match="keras-recnet cosal"):
        keras_recnet.Predictor(tiny_group_preset)


def test_the_edge_version_supports_other_image_sizes(tiny_group_preset, tiny_group_model, photos):
    other = GroupPredictor(tiny_group_preset, size=(96, 128))
    assert other.engine.size == (96, 128)
    images = list(np.random.default_rng(0).integers(0, 256, (3, 96, 128, 3), dtype="uint8"))
    model = RCAUNet.from_config({**tiny_group_model.get_config(), "image_size": (96, 128)})
    model.set_weights(tiny_group_model.get_weights())
    for saliency, expected in zip(other(images), stream(model, images), strict=True):
        assert np.abs(saliency - expected.saliency).mean() < 2e-3


def test_a_network_whose_recurrent_unit_has_a_spatial_map_supports_one_image_size(make_group_model, tmp_path):
    make_group_model("rcau").save_to_preset(tmp_path)
    with pytest.raises(PresetError, match="only supports images of 64×64"):
        GroupPredictor(tmp_path, size=96)


def test_cosaliency_is_a_function_of_the_package(predictor, photos, monkeypatch):
    monkeypatch.setattr("keras_recnet.inference.group_predictor._default_predictor", lambda: predictor)
    np.testing.assert_array_equal(keras_recnet.cosaliency(photos)[1], predictor(photos)[1])


def test_the_first_order_is_the_given_one():
    first, *others = group_orders(6, 4, seed=3)
    np.testing.assert_array_equal(first, np.arange(6))
    assert all(sorted(order) == list(range(6)) for order in others)


def test_a_map_is_the_resized_output_of_the_network(predictor):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype="uint8")
    (saliency,) = predictor([image])
    engine = predictor.engine
    features = engine.encode(image)
    state = engine.advance(features, empty_state(engine))
    np.testing.assert_allclose(saliency, resize_map(engine.decode(features, state), (64, 64)), atol=1e-6)


def test_the_shipped_preset_keeps_what_the_photos_have_in_common_and_removes_the_rest(photographs):
    folder = photographs[0].parents[1] / "group"
    photos = sorted(folder.glob("*.jpg"))
    maps = dict(zip((path.stem for path in photos), keras_recnet.cosaliency(photos), strict=True))
    alone = {path.stem: keras_recnet.saliency(path) for path in photos}
    middle = 298  # of both collages, in pixels
    for name, part in (
        ("astronaut_and_cat", np.s_[:, :middle]),
        ("flower_and_grace_hopper", np.s_[:, middle:]),
        ("cameraman", np.s_[:]),
    ):
        assert maps[name][part].mean() > 0.5 * alone[name][part].mean() > 0.1
    for name, part in (
        ("astronaut_and_cat", np.s_[:, middle:]),
        ("flower_and_grace_hopper", np.s_[:, :middle]),
        ("distractor_coffee", np.s_[:]),
    ):
        assert maps[name][part].mean() < 0.1 * alone[name][part].mean()
        assert alone[name][part].mean() > 0.1
