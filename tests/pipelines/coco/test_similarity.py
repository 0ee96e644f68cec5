import cmath
import math
import os

import numpy as np
import pytest

from keras_recnet.pipelines import PipelineDataError
from keras_recnet.pipelines.coco import feature_store
from keras_recnet.pipelines.coco.feature_store import FeatureStore
from keras_recnet.pipelines.coco.similarity import (
    descriptors,
    gabor_filters,
    gist,
    lab_histogram,
    nearest,
)

SIZE, BORDER = 16, 4


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


# Reference GIST in float64 from the authors' description: plain sums instead of fast transforms


def transform(plane, sign):
    """Discrete Fourier transform of a square by its definition; frequency 0 comes first."""
    n = len(plane)
    waves = np.array([[cmath.exp(sign * 2j * cmath.pi * k * x / n) for x in range(n)] for k in range(n)])
    return waves @ plane @ waves.T / (1 if sign < 0 else n * n)


def mirrored(plane, width):
    return plane[np.ix_(*[[_reflect(i, side) for i in range(-width, side + width)] for side in plane.shape])]


def _reflect(i, side):
    return -i - 1 if i < 0 else 2 * side - 1 - i if i >= side else i


def signed(k, n):
    """Frequency of index `k`, in cycles per image."""
    return k if k < n / 2 else k - n


def filtered_by_hand(plane, transfer):
    n = len(plane)
    spectrum = transform(plane, -1)
    for row in range(n):
        for column in range(n):
            spectrum[row, column] *= transfer(signed(column, n), signed(row, n))
    return transform(spectrum, 1)


def gabor_by_hand(n, scale, orientation):
    def transfer(x, y):
        turned = math.atan2(y, x) + math.pi / 8 * orientation
        turned -= 2 * math.pi * (turned > math.pi)
        frequency = 0.3 / 1.85**scale
        return math.exp(-10 * 0.35 * (math.hypot(x, y) / n / frequency - 1) ** 2 - 2 * math.pi * turned**2)

    return transfer


def prefiltered_by_hand(picture):
    gray = picture.astype(np.float64).mean(-1)
    gray = 255 * (gray - gray.min()) / (gray.max() - gray.min())
    padded = mirrored(np.log(gray + 1), 5)
    width = 4 / math.sqrt(math.log(2))

    def low_pass(x, y):
        return math.exp(-(x**2 + y**2) / width**2)

    fine = padded - filtered_by_hand(padded, low_pass).real
    return (fine / (0.2 + np.sqrt(abs(filtered_by_hand(fine**2, low_pass)))))[5:-5, 5:-5]


@pytest.mark.parametrize(("scale", "orientation"), [(0, 0), (1, 3), (2, 7), (3, 5)])
def test_gist_equals_the_plain_computation(picture, scale, orientation):
    padded = mirrored(prefiltered_by_hand(picture), BORDER)
    response = abs(filtered_by_hand(padded, gabor_by_hand(len(padded), scale, orientation)))[
        BORDER:-BORDER, BORDER:-BORDER
    ]
    expected = [[response[4 * r : 4 * r + 4, 4 * c : 4 * c + 4].mean() for c in range(4)] for r in range(4)]
    found = gist(picture, size=SIZE, border=BORDER).reshape(4, 8, 4, 4)
    np.testing.assert_allclose(found[scale, orientation], expected, rtol=2e-4)


def test_gist_shows_the_place_and_direction_of_structure():
    """Vertical stripes in the upper right quarter excite the vertical filters there."""
    image = np.full((256, 256, 3), 128, np.uint8)
    image[:128, 128:] = np.where(np.arange(128) // 4 % 2, 255, 0)[None, :, None]
    cells = gist(image).reshape(4, 8, 4, 4)
    strongest = np.unravel_index(cells.argmax(), cells.shape)
    assert strongest[1] == 0
    assert strongest[2] < 2 <= strongest[3]
    turned = gist(np.rot90(image)).reshape(4, 8, 4, 4)
    np.testing.assert_allclose(turned.max((1, 2, 3)), cells.max((1, 2, 3)), rtol=0.05)
    assert np.unravel_index(turned.argmax(), turned.shape)[1] == 4


@pytest.mark.parametrize("value", [0, 128, 255])
def test_gist_of_a_plain_color_is_zero(value):
    found = gist(np.full((40, 30, 3), value, np.uint8))
    assert found.shape == (512,)
    np.testing.assert_allclose(found, 0, atol=1e-4)


def test_gist_uses_the_central_square(picture):
    wide = np.zeros((SIZE, 3 * SIZE, 3), np.uint8)
    wide[:, SIZE : 2 * SIZE] = picture
    for image in (wide, wide.transpose(1, 0, 2)):
        expected = picture if image is wide else picture.transpose(1, 0, 2)
        np.testing.assert_allclose(
            gist(image, size=SIZE, border=BORDER), gist(expected, size=SIZE, border=BORDER), rtol=1e-4, atol=1e-6
        )


def test_filters_are_one_sided():
    filters = gabor_filters(64)
    assert filters.shape == (4, 8, 64, 64)
    for scale in range(4):
        for orientation in range(8):
            y, x = np.unravel_index(filters[scale, orientation].argmax(), (64, 64))
            assert math.hypot(signed(x, 64), signed(y, 64)) / 64 == pytest.approx(0.3 / 1.85**scale, abs=0.012)
            opposite = filters[scale, orientation][-y % 64, -x % 64]
            assert opposite < 1e-6


# Lab


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        # L / 12.5, (a + 64) / 16, (b + 64) / 16 of the colors' known Lab values, within 0…7
        ((0, 0, 0), (0, 4, 4)),  # 0, 0, 0
        ((255, 0, 0), (4, 7, 7)),  # 53.2, 80.1, 67.2
        ((0, 0, 255), (2, 7, 0)),  # 32.3, 79.2, −107.9
        ((0, 128, 128), (3, 2, 3)),  # 48.3, −28.8, −8.5
        ((210, 180, 140), (5, 4, 5)),  # 75.0, 5.0, 24.4: L is close to 75
    ],
)
def test_known_colors_fall_in_the_expected_bins(rgb, expected):
    histogram = lab_histogram(np.full((20, 30, 3), rgb, np.uint8)).reshape(8, 8, 8)
    lightness, *color = np.unravel_index(histogram.argmax(), histogram.shape)
    assert histogram.max() == 1
    assert tuple(color) == expected[1:]
    assert abs(lightness - expected[0]) <= (rgb == (210, 180, 140))


def test_the_histogram_holds_the_share_of_each_color():
    image = np.zeros((128, 128, 3), np.uint8)
    image[:32] = (255, 0, 0)
    image[32:64, :64] = (0, 128, 128)
    histogram = lab_histogram(image)
    assert histogram.dtype == np.float32
    assert histogram.sum() == pytest.approx(1)
    found = histogram.reshape(8, 8, 8)
    assert (found[4, 7, 7], found[3, 2, 3], found[0, 4, 4]) == pytest.approx((0.25, 0.125, 0.625))


# Neighbors


@pytest.mark.parametrize("chunk", [1, 7, 512])
@pytest.mark.parametrize("rows", [None, [3, 50, 0]])
def test_neighbors_equal_a_brute_force_search(chunk, rows):
    vectors = np.random.default_rng(1).normal(size=(60, 9)).astype(np.float32)
    found = nearest(vectors, 4, rows, chunk=chunk)
    for row, near in zip(rows or range(60), found, strict=True):
        distances = sorted((float(((vectors[row] - vectors[i]) ** 2).sum()), i) for i in range(60) if i != row)
        assert list(near) == [i for _, i in distances[:4]]


def test_every_other_vector_can_be_a_neighbor():
    assert nearest(np.float32([[0], [5], [1]]), 2).tolist() == [[2, 1], [2, 0], [0, 1]]


def test_shape_and_color_count_equally():
    random = np.random.default_rng(2)
    gists = random.random((50, 512)).astype(np.float32) * 100
    histograms = random.dirichlet(np.ones(512), 50).astype(np.float32)
    vectors = descriptors(gists, histograms)
    assert vectors.shape == (50, 1024)
    for half in (vectors[:, :512], vectors[:, 512:]):
        assert ((half - half.mean(0)) ** 2).sum(1).mean() == pytest.approx(1, rel=1e-4)
    # Hellinger's distance, up to a factor
    distance = np.linalg.norm(np.sqrt(histograms[0]) - np.sqrt(histograms[1]))
    other = np.linalg.norm(np.sqrt(histograms[0]) - np.sqrt(histograms[2]))
    found = [np.linalg.norm(vectors[0, 512:] - vectors[i, 512:]) for i in (1, 2)]
    assert found[0] / found[1] == pytest.approx(distance / other, rel=1e-4)


def test_identical_images_have_finite_descriptors():
    vectors = descriptors(np.ones((3, 512), np.float32), np.full((3, 512), 1 / 512, np.float32))
    assert np.isfinite(vectors).all()


# The feature file


@pytest.fixture
def files(folders, save_pair):
    for number in range(5):
        save_pair(str(number), size=(40 + number, 30))
    return {str(number): folders[0] / f"{number}.jpg" for number in range(5)}


def counted(monkeypatch):
    computed, compute = [], feature_store.features_of
    monkeypatch.setattr(feature_store, "features_of", lambda path: computed.append(path.stem) or compute(path))
    return computed


def test_features_are_recomputed_only_when_a_file_changes(files, tmp_path, monkeypatch):
    computed = counted(monkeypatch)
    seen = []
    store = FeatureStore(tmp_path / "f.npz", workers=1)
    store.compute(files, progress=lambda *step: seen.append(step))
    assert seen == [(done, 5) for done in range(1, 6)]
    assert store.size("3") == (43, 30)
    files["1"].write_bytes(files["2"].read_bytes())
    again = FeatureStore(tmp_path / "f.npz", workers=1)
    again.compute(files, progress=lambda *step: seen.append(step))
    assert computed == [*"01234", "1"]
    assert seen[5:] == [(4, 5), (5, 5)]
    np.testing.assert_array_equal(again.features("1"), store.features("2"))
    np.testing.assert_array_equal(again.features("3"), store.features("3"))


def test_computed_features_survive_an_interruption(files, tmp_path, monkeypatch):
    computed = counted(monkeypatch)

    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FeatureStore(tmp_path / "f.npz", workers=1).compute(files, progress=interrupt)
    FeatureStore(tmp_path / "f.npz", workers=1).compute(files)
    assert computed == list("01234")
    assert sorted(path.name for path in tmp_path.glob("*f*.npz")) == ["f.npz"]


def test_a_damaged_feature_file_is_recomputed(files, tmp_path):
    path = tmp_path / "f.npz"
    some = {"0": files["0"]}
    FeatureStore(path, workers=1).compute(some)
    whole = path.read_bytes()
    for content in (whole[:-100], b"", b"PK" * 50):
        path.write_bytes(content)
        assert len(FeatureStore(path)) == 0
    FeatureStore(path, workers=1).compute(some)
    assert len(FeatureStore(path)) == 1


def test_unreadable_photos_are_reported(files, tmp_path):
    files["2"].write_bytes(b"no picture")
    store = FeatureStore(tmp_path / "f.npz", workers=1)
    store.compute(files)
    assert list(store.problems) == ["2"]
    assert store.problems["2"].startswith(f"{files['2']}: not an image of a known format")
    assert len(store) == 4


def test_several_processes_compute_the_same_features(files, tmp_path):
    one = FeatureStore(tmp_path / "1.npz", workers=1)
    two = FeatureStore(tmp_path / "2.npz", workers=2)
    for store in (one, two):
        store.compute(files)
    for name in files:
        np.testing.assert_allclose(one.features(name), two.features(name), atol=1e-6)


def test_a_killed_process_is_reported(files, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_store, "features_of", _Ending())
    with pytest.raises(PipelineDataError, match=r"was killed(?s:.*)Start again"):
        FeatureStore(tmp_path / "f.npz", workers=2).compute(files)


class _Ending:
    """Kills the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (1,)
