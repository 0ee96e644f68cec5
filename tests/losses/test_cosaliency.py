import keras
import numpy as np
import pytest

from keras_recnet.errors import WeightsError
from keras_recnet.losses import CoPerceptualLoss, CoSaliencyLoss, SaliencyLoss, co_perceptual, perceptual_features
from keras_recnet.losses.cosaliency import PERCEPTUAL_LAYERS

BATCH, IMAGES, SIZE = 3, 5, 32
rng = np.random.default_rng(0)
KERNELS = [rng.normal(size=(3, channels)).astype("float32") for channels in (2, 4)]
PHOTOS = rng.uniform(0, 255, (BATCH, IMAGES, SIZE, SIZE, 3)).astype("float32")
MASKS = (rng.uniform(size=(BATCH, IMAGES, SIZE, SIZE, 1)) > 0.5).astype("float32")
LOGITS = rng.normal(size=MASKS.shape).astype("float32")
VALID = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 1, 0, 0]], "bool")
MASKS[0, 2] = 0  # distractors
MASKS[2, 1] = 0  # so that one image remains


def phi(images):
    """A small φ: two random pixelwise feature maps, at two sizes."""
    return [
        keras.ops.relu(keras.ops.matmul(images[:, ::k, ::k] / 255, w)) for k, w in zip((8, 16), KERNELS, strict=True)
    ]


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def features_of(features, image, pooling):
    maps = [numpy(x)[0].astype("float64") for x in features(keras.ops.convert_to_tensor(image[None]))]
    return np.concatenate([x.mean(axis=(0, 1)) if pooling else x.ravel() for x in maps])


def by_pairs(features, photos, masks, maps, valid, pooling):
    """Eq. 14 as a double loop over the pairs of each group."""
    result = np.zeros(masks.shape[:2])
    for group in range(len(photos)):
        counted = [n for n in range(masks.shape[1]) if valid[group, n] and masks[group, n].any()]
        for n in counted:
            predicted = features_of(features, photos[group, n] * maps[group, n], pooling)
            for m in counted:
                if m != n:
                    target = features_of(features, photos[group, m] * masks[group, m], pooling)
                    result[group, n] += ((predicted - target) ** 2).sum() / (len(predicted) * (len(counted) - 1))
    return result


@pytest.mark.parametrize("pooling", ["average", None])
def test_the_closed_form_equals_the_double_loop_over_pairs(pooling):
    maps = sigmoid(LOGITS)
    values, counted = co_perceptual(PHOTOS, MASKS, maps, phi, valid=VALID, pooling=pooling)
    expected = by_pairs(phi, PHOTOS, MASKS, maps, VALID, pooling)
    np.testing.assert_allclose(numpy(values), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(numpy(counted), [[1, 1, 0, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 0, 0]])
    loss = CoPerceptualLoss(features=phi, pooling=pooling)(PHOTOS, MASKS, maps, VALID)
    assert float(loss) == pytest.approx(expected.sum() / 8, rel=1e-4)


@pytest.mark.parametrize("pooling", ["average", None])
def test_vgg_features_equal_the_double_loop_over_pairs(pooling):
    keras.utils.set_random_seed(0)
    vgg = perceptual_features(SIZE, weights=None)
    assert [output.shape[-1] for output in vgg.output] == [256, 512, 512]
    assert not vgg.trainable_weights
    photos, masks, maps = PHOTOS[:1, :3], MASKS[:1, [0, 1, 3]], sigmoid(LOGITS[:1, :3])
    values, _ = co_perceptual(photos, masks, maps, vgg, pooling=pooling)
    expected = by_pairs(vgg, photos, masks, maps, np.ones((1, 3), "bool"), pooling)
    np.testing.assert_allclose(numpy(values), expected, rtol=1e-3)


def test_excluded_images_change_nothing():
    maps = sigmoid(LOGITS)
    out = ~VALID | ~MASKS.any(axis=(2, 3, 4))
    photos = np.where(out[..., None, None, None], 255 - PHOTOS, PHOTOS)
    changed_maps = np.where(out[..., None, None, None], 1 - maps, maps)
    one, other = (
        numpy(co_perceptual(x, MASKS, y, phi, valid=VALID)[0]) for x, y in ((PHOTOS, maps), (photos, changed_maps))
    )
    np.testing.assert_array_equal(one, other)
    assert not one[out].any()


def test_a_group_of_one_and_a_batch_without_objects_have_no_loss():
    assert float(CoPerceptualLoss(features=phi)(PHOTOS[:, :1], MASKS[:, :1], MASKS[:, :1])) == 0
    assert float(CoPerceptualLoss(features=phi)(PHOTOS, 0 * MASKS, MASKS)) == 0


def test_perfect_maps_of_equal_images_have_no_loss():
    photos, masks = np.repeat(PHOTOS[:, :1], 3, axis=1), np.repeat(MASKS[:, :1], 3, axis=1)
    assert float(CoPerceptualLoss(features=phi)(photos, masks, masks)) == pytest.approx(0, abs=1e-10)
    assert float(CoPerceptualLoss(features=phi)(photos, masks, 0 * masks)) > 1e-3


def test_images_are_resized_to_the_input_size_of_phi():
    sizes = []

    def spy(images):
        sizes.append(tuple(images.shape[1:]))
        return phi(images)

    loss = CoPerceptualLoss(features=spy, image_size=16)(PHOTOS, MASKS, sigmoid(LOGITS), VALID)
    assert sizes == [(16, 16, 3)] * 2
    assert np.isfinite(float(loss))


def test_each_image_passes_through_phi_twice_in_groups_of_any_size():
    count = 0

    def spy(images):
        nonlocal count
        count += images.shape[0]
        return phi(images)

    co_perceptual(PHOTOS, MASKS, sigmoid(LOGITS), spy)
    assert count == 2 * BATCH * IMAGES


def test_the_loss_of_an_image_equals_saliency_loss():
    options = {"absolute_weight": 2.0, "dice_weight": 0.5, "iou_weight": 0.25, "cross_entropy": "structure"}
    options["pixel_reduction"] = "sum"
    masks = np.where(MASKS.any(axis=(2, 3, 4), keepdims=True), MASKS, 1)
    values = numpy(CoSaliencyLoss(**options, reduction=None)(masks, LOGITS))
    assert values.shape == (BATCH, IMAGES)
    reference = SaliencyLoss(cooperative_weight=0, **options, reduction=None)
    for group in range(BATCH):
        np.testing.assert_allclose(values[group], numpy(reference(masks[group], LOGITS[group])), rtol=1e-5)
    weight = np.where(VALID, 2.0, 0.0)
    mean = float(CoSaliencyLoss(**options)(masks, LOGITS, sample_weight=weight))
    assert mean == pytest.approx(values[VALID].mean(), rel=1e-5)
    assert float(CoSaliencyLoss(**options)(masks, LOGITS, sample_weight=0 * weight)) == 0


def test_dice_and_iou_are_left_out_for_images_without_an_object():
    values, pixels = (
        numpy(CoSaliencyLoss(**options, absolute_weight=1.0, reduction=None)(MASKS, LOGITS))
        for options in ({"dice_weight": 0.5, "iou_weight": 0.25}, {})
    )
    has_object = MASKS.any(axis=(2, 3, 4))
    assert not has_object.all()
    assert np.all(values[~has_object] == pixels[~has_object])
    assert np.all(values[has_object] > pixels[has_object])


def test_the_default_weight_is_the_papers_divided_by_the_number_of_pixels():
    def term(**options):
        loss = CoSaliencyLoss(co_perceptual=lambda *_: 1.0, **options)
        return float(loss.co_perceptual_term(PHOTOS, MASKS, LOGITS, VALID))

    assert term() == pytest.approx(0.1 / SIZE**2)
    assert term(pixel_reduction="sum") == pytest.approx(0.1)
    assert term(co_perceptual_weight=3.0) == pytest.approx(3.0)


def test_a_loss_is_restored_from_its_configuration():
    loss = CoSaliencyLoss(
        dice_weight=0.5,
        co_perceptual=CoPerceptualLoss(image_size=112, pooling=None, weights=None),
        co_perceptual_weight=1e-4,
        start_epoch=3,
    )
    assert loss.active is False
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    assert again.co_perceptual.get_config() == {"image_size": [112, 112], "pooling": None, "weights": None}


def test_missing_weights_are_named_in_the_error():
    with pytest.raises(WeightsError, match=r"nowhere\.h5"):
        CoPerceptualLoss(weights="nowhere.h5")(PHOTOS, MASKS, MASKS)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: CoPerceptualLoss(pooling="max"),
        lambda: co_perceptual(PHOTOS, MASKS, MASKS, phi, pooling="max"),
        lambda: CoSaliencyLoss(co_perceptual="vgg"),
        lambda: CoSaliencyLoss(co_perceptual_weight=-1),
        lambda: CoSaliencyLoss(dice_weight=-1),
        lambda: CoSaliencyLoss()(MASKS[0], LOGITS[0]),
        lambda: CoSaliencyLoss()(MASKS, np.concatenate([LOGITS, LOGITS], axis=-1)),
    ],
)
def test_errors_end_with_what_was_received(bad):
    with pytest.raises(ValueError, match="Received"):
        bad()


def test_perceptual_layers_match_the_paper():
    assert PERCEPTUAL_LAYERS == ("block3_conv1", "block4_conv1", "block5_conv1")
