import io
import json
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_recnet.export import sample_images
from keras_recnet.imaging.reading import read
from keras_recnet.inference.predictor import Predictor

SIZE = (97, 131)


@pytest.fixture(scope="module")
def signatures(tiny_saved_model):
    loaded = tf.saved_model.load(tiny_saved_model["folder"])
    yield loaded.signatures
    del loaded


@pytest.fixture(scope="module")
def predictor(tiny_preset):
    return Predictor(tiny_preset, engine="keras")


def encoded(signatures, files):
    outputs = signatures["encoded"](image_bytes=tf.constant(files, tf.string))
    maps = [np.asarray(Image.open(io.BytesIO(data))) if data else None for data in outputs["saliency_bytes"].numpy()]
    return maps, outputs["status"].numpy().tolist()


def test_the_export_describes_its_signatures(tiny_saved_model, signatures):
    assert set(signatures) == {"serving_default", "uint8", "encoded", "branches"} == set(tiny_saved_model["signatures"])
    encoded = tiny_saved_model["signatures"]["encoded"]
    assert encoded["inputs"]["image_bytes"]["dtype"] == "string"
    assert {name: tensor["shape"] for name, tensor in encoded["outputs"].items()} == {
        "saliency_bytes": [None],
        "status": [None],
    }
    image = tiny_saved_model["signatures"]["serving_default"]["inputs"]["images"]
    assert image == {"dtype": "float32", "shape": [None, None, None, 3], "meaning": "RGB in 0…255"}


def test_differences_are_within_the_tolerances(tiny_saved_model, tiny_group_saved_model):
    for report in (tiny_saved_model, tiny_group_saved_model):
        rows = {(row["signature"], row["output"]): row for row in report["verification"]["differences"]}
        assert rows.pop(("encoded", "saliency_bytes"), {"mean": 0})["mean"] < 1.1 / 510
        assert all(row["mean"] <= 1e-5 for row in rows.values())
    assert ("group", "saliency") in rows
    assert ("encode → step → decode", "saliency") in rows


def test_signatures_and_prediction_agree_on_photographs(signatures, predictor, photographs):
    files = [photo.read_bytes() for photo in photographs]
    maps, status = encoded(signatures, files)
    assert status == [0] * len(files)
    for photo, from_file in zip(photographs, maps, strict=True):
        decoded = read(photo)
        expected = predictor(decoded.rgb)  # not the file: the predictor would decode only an eighth of its pixels
        outputs = signatures["serving_default"](images=tf.constant(decoded.rgb[None], tf.float32))
        assert from_file.shape == expected.shape == outputs["saliency"].shape[1:3]
        assert np.abs(from_file - 255 * expected).mean() < 1
        assert np.abs(outputs["saliency"][0, ..., 0] - expected).mean() < 1 / 255
        assert expected.std() > 0.01


def test_uint8_and_branches_have_the_same_map(signatures, predictor):
    image = sample_images.draw(SIZE)
    saliency = signatures["serving_default"](images=tf.constant(image[None], tf.float32))["saliency"].numpy()
    of_uint8 = signatures["uint8"](images=tf.constant(image[None]))["saliency"].numpy()
    np.testing.assert_array_equal(of_uint8, saliency)
    branches = signatures["branches"](images=tf.constant(image[None], tf.float32))
    np.testing.assert_array_equal(branches["saliency"], saliency)
    # the tiny model's fusion is the average
    average = (branches["foreground"] + 1 - branches["background"]) / 2
    np.testing.assert_allclose(average, saliency, atol=1e-6)


def save(array, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", **options)
    return file.getvalue()


def test_maps_of_png_files_equal_those_of_their_pixels(signatures):
    rgb = sample_images.draw(SIZE)
    alpha = np.linspace(0, 255, SIZE[1]).astype(np.uint8)[None].repeat(SIZE[0], 0)
    gray16 = (rgb[..., 0].astype(np.uint16) << 8) + 17
    palette = io.BytesIO()
    Image.fromarray(rgb).quantize(32).save(palette, "PNG")
    files = [save(rgb[..., 0]), save(np.dstack([rgb, alpha])), save(gray16), palette.getvalue()]
    maps, status = encoded(signatures, files)
    assert status == [0] * 4
    for file, received in zip(files, maps, strict=True):
        pixels = tf.constant(read(file).rgb[None], tf.float32)
        expected = 255 * signatures["serving_default"](images=pixels)["saliency"].numpy()[0, ..., 0]
        # half a gray level from the rounding to 8 bits, and more from compositing on white
        assert np.abs(received - expected).max() < (2 if file is files[1] else 0.51)


def test_bad_files_do_not_fail_the_batch(signatures):
    good = sample_images.encode_png(sample_images.draw(SIZE))
    jpeg = io.BytesIO()
    Image.fromarray(sample_images.draw((60, 40), 1)).save(jpeg, "JPEG")
    jpeg = jpeg.getvalue()
    gif = io.BytesIO()
    Image.fromarray(sample_images.draw(SIZE)).save(gif, "GIF")
    bad = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", good[:40], good[:-200], jpeg[:300], gif.getvalue(), b"\0" * 4096]
    bad += [good[:60] + bytes(9) + good[69:]]  # a wrong checksum inside
    maps, status = encoded(signatures, [good, *bad, jpeg, good])
    assert status == [0, *[1] * len(bad), 0, 0]
    assert [None if map_ is None else map_.shape for map_ in maps] == [SIZE, *[None] * len(bad), (60, 40), SIZE]
    (alone, *_), _ = encoded(signatures, [good])
    np.testing.assert_array_equal(alone, maps[0])
    np.testing.assert_array_equal(alone, maps[-1])


@pytest.mark.parametrize(
    ("size", "status"), [((30_000, 30_000), 2), ((50_001, 1000), 2), ((0, 10), 1), ((2**31, 2**31), 1)]
)
def test_the_header_of_a_png_shows_that_it_is_too_large(signatures, size, status):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", *size[::-1], 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    assert encoded(signatures, [bomb]) == ([None], [status])


def test_the_header_of_a_jpeg_shows_that_it_is_too_large(signatures):
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "JPEG")
    data = file.getvalue()
    frame = data.index(b"\xff\xc0")
    data = data[: frame + 5] + struct.pack(">HH", 30_000, 30_000) + data[frame + 9 :]
    assert encoded(signatures, [data]) == ([None], [2])


@pytest.mark.parametrize(
    ("shape", "message"),
    [((0, 8, 8, 3), "`images` is empty"), ((1, 0, 8, 3), "`images` is empty"), ((1, 1, 50_000_001, 3), "50,000,000")],
)
def test_empty_and_large_tensors_are_refused(signatures, shape, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signatures["uint8"](images=tf.zeros(shape, tf.uint8))


def test_an_empty_batch_of_files_is_refused(signatures):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"`image_bytes` is empty\. Send at least one image"):
        signatures["encoded"](image_bytes=tf.constant([], tf.string))


def test_padding_does_not_change_the_maps_of_a_group(tiny_group_saved_model, tiny_group_model):
    loaded = tf.saved_model.load(tiny_group_saved_model["folder"])
    group = loaded.signatures["group"]
    images = np.stack([sample_images.draw(SIZE, seed) for seed in range(3)]).astype(np.float32)
    whole = group(images=tf.constant(images[None]), mask=tf.ones((1, 3), tf.bool))["saliency"].numpy()
    assert whole.shape == (1, 3, *SIZE, 1)
    padded = np.concatenate([images, np.full_like(images[:2], 255)])
    mask = [[True] * 3 + [False] * 2]
    received = group(images=tf.constant(padded[None]), mask=tf.constant(mask))["saliency"].numpy()
    np.testing.assert_allclose(received[:, :3], whole, atol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`mask` must have the shape"):
        group(images=tf.constant(images[None]), mask=tf.ones((1, 4), tf.bool))


def test_the_export_contains_a_warm_up_request_per_signature(tiny_saved_model, signatures):
    from tensorflow_serving.apis import prediction_log_pb2

    file = f"{tiny_saved_model['folder']}/assets.extra/tf_serving_warmup_requests"
    requests = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        for record in tf.data.TFRecordDataset(file)
    ]
    assert {request.model_spec.signature_name for request in requests} == set(signatures)
    for request in requests:
        inputs = {key: tf.make_ndarray(tensor) for key, tensor in request.inputs.items()}
        outputs = signatures[request.model_spec.signature_name](**{k: tf.constant(v) for k, v in inputs.items()})
        assert "saliency" in outputs or outputs["status"].numpy().tolist() == [0]


def test_mixed_precision_keeps_scores_and_maps_in_float32(tiny_model):
    from keras_recnet.export import worker
    from keras_recnet.export.savedmodel import signatures

    mixed = worker.to_precision(tiny_model, "float16")
    graph = signatures.build(mixed)["serving_default"].get_concrete_function().graph
    types = {}
    for operation in _operations(graph):
        types.setdefault(operation.type, set()).update(tensor.dtype for tensor in operation.outputs)
    assert types["Conv2D"] == {tf.float16}
    assert types["Softmax"] == {tf.float32}
    assert types["Sigmoid"] == {tf.float32}
    assert {weight.dtype for weight in mixed.weights} == {"float32"}


def test_mixed_precision_outputs_features_and_the_state_in_float32(tiny_group_model):
    from keras_recnet.export import worker
    from keras_recnet.export.savedmodel import signatures

    served = signatures.build(worker.to_precision(tiny_group_model, "float16"))
    step, decoder = tiny_group_model.step, tiny_group_model.decoder
    features = served["encode"](tf.constant(sample_images.draw(SIZE)[None], tf.float32))
    tensors = {**features, **{name: tf.zeros((1, *step.input[name].shape[1:])) for name in step.output}}
    state = served["step"](*(tensors[name] for name in step.input))
    assert {tensor.dtype for tensor in (features | state).values()} == {tf.float32}
    saliency = served["decode"](*({**features, **state}[name] for name in decoder.input))["saliency"]
    assert saliency.dtype == tf.float32


def _operations(graph):
    yield from graph.get_operations()
    for function in graph._functions.values() if hasattr(graph, "_functions") else ():
        yield from function.graph.get_operations()


def test_the_description_is_json(tiny_saved_model):
    file = f"{tiny_saved_model['folder']}/export.json"
    with open(file, encoding="utf-8") as text:
        assert json.load(text)["versions"]["tensorflow"] == tf.__version__
