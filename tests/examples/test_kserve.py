"""The REST client against KServe's own model server, started by `make test-kserve`."""

import contextlib
import json
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import ExifTags, Image

from keras_recnet import Predictor, presets
from keras_recnet.cli.remote import main
from keras_recnet.export.serving.client import RequestImageError, ServerError
from keras_recnet.export.serving.rest_client import RestClient

EXAMPLES = Path(__file__).parents[2] / "examples"
KSERVE = EXAMPLES / "kserve"
MODEL = "recnet_lite0"
kserve = pytest.importorskip("kserve", reason="`make test-kserve` installs KServe")
V1Container = pytest.importorskip("kubernetes.client").V1Container


@contextlib.contextmanager
def running(log):
    """Run `examples/kserve/server.py` with a limit of 500,000 pixels. Yields its process and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(KSERVE / "server.py"), "--http_port", str(port), "--enable_grpc", "false"]
    with open(log, "w") as file:
        process = subprocess.Popen([*command, "--max_pixels", "500000"], stdout=file, stderr=file)
    try:
        url = f"http://127.0.0.1:{port}"
        with RestClient(MODEL, url, retries=0) as client:
            client.wait_until_ready(60)
        yield process, url
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with running(log) as (process, url):
        yield url
        assert process.poll() is None, log.read_text()


@pytest.fixture
def client(server):
    with RestClient(MODEL, server) as connected:
        yield connected


@pytest.fixture(scope="module")
def predictor():
    return Predictor(MODEL, threads=1)


@pytest.fixture
def photos(photographs, tmp_path):
    """The example photos, a photo with an EXIF rotation, and images of other formats and sizes."""
    with Image.open(photographs[0]) as image:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        paths = [tmp_path / name for name in ("turned.jpg", "small.png", "gray.png", "photo.webp")]
        image.transpose(Image.Transpose.ROTATE_90).save(paths[0], exif=exif, quality=95)
        image.resize((37, 21)).save(paths[1])
        image.convert("L").save(paths[2])
        image.save(paths[3], lossless=True)
    return [*photographs, *paths]


def assert_equal_maps(saliency_map, expected, limit=0.5001):
    """Compare an 8-bit map from the server with a local map. `limit`: largest difference, in units of 1/255."""
    assert saliency_map.shape == expected.shape
    assert np.ptp(saliency_map) > 0.1
    assert np.abs(saliency_map - expected).max() <= limit / 255


def test_maps_equal_local_prediction(client, predictor, photos):
    maps = client.map(photos, batch_size=4, jobs=2)
    for path, saliency_map in zip(photos, maps, strict=True):
        if path.name == "turned.jpg":  # encoded again by the client
            assert np.abs(saliency_map - predictor(path)).mean() <= 1 / 255
        else:
            assert_equal_maps(saliency_map, predictor(path))


def test_images_that_fail_are_reported_and_the_others_have_maps(client, predictor, photographs, tmp_path):
    good, cut, large = photographs[0], tmp_path / "cut.jpg", tmp_path / "large.png"
    cut.write_bytes(good.read_bytes()[:-2000])
    Image.new("RGB", (800, 700)).save(large)
    first, *failed, last = client.map([good, cut, large, tmp_path / "none.jpg", good], errors="return")
    for saliency_map in (first, last):
        assert_equal_maps(saliency_map, predictor(good))
    assert [(error.index, error.status) for error in failed] == [(1, 1), (2, 2), (3, None)]
    assert str(failed[0]).startswith(f"image 1 ({cut}): undecodable")
    assert str(failed[1]).startswith(f"image 2 ({large}): too large")
    with pytest.raises(RequestImageError, match=r"image 0 \(.*cut\.jpg\): undecodable"):
        client(cut)


def test_threads_may_share_a_client(client, predictor, photographs):
    with ThreadPoolExecutor(8) as pool:
        for path, saliency_map in zip(photographs * 3, pool.map(client, photographs * 3), strict=True):
            assert_equal_maps(saliency_map, predictor(path))


def test_wrong_names_versions_and_requests_are_reported(server, client, photographs):
    with RestClient("other", server) as other:
        assert not other.is_ready()
        with pytest.raises(ServerError, match=r"HTTP 404: Model with name other does not exist") as caught:
            other(photographs[0])
        assert not caught.value.temporary
    with RestClient(MODEL, server, version=1) as versioned:
        assert not versioned.is_ready()
        with pytest.raises(ServerError, match=r"HTTP 404: .*KServe models have no versions, so omit it"):
            versioned(photographs[0])
    for body in ('{"instances": [{"images": [1]}]}', '{"instances": 3}', "[]", '{"instances": [{"image_bytes": {}}]}'):
        with pytest.raises(ServerError, match=r"HTTP 400: .*instances") as caught:
            client._call("POST", f"{client.url}:predict", body)
        assert caught.value.code == 400


def test_the_command_writes_maps_and_lists_failures(server, predictor, photographs, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "good.jpg").write_bytes(photographs[0].read_bytes())
    (folder / "cut.jpg").write_bytes(photographs[0].read_bytes()[:-2000])
    assert main(RestClient, server, [str(folder), "-o", str(tmp_path / "maps")]) == 1
    error = capsys.readouterr().err
    assert "1 of 2 images" in error
    assert "cut.jpg): undecodable" in error
    saliency_map = np.asarray(Image.open(tmp_path / "maps" / "good.png"), np.float32) / 255
    assert_equal_maps(saliency_map, predictor(folder / "good.jpg"))


def test_sigterm_ends_the_server_and_the_client_reports_it(photographs, tmp_path):
    with running(tmp_path / "log.txt") as (process, url), RestClient(MODEL, url, retries=1) as client:
        assert client(photographs[0]).shape
        process.terminate()
        assert process.wait(30) == 0, (tmp_path / "log.txt").read_text()
        with pytest.raises(ServerError, match=r"no connection\. Is the server running\?.*Tried 2 times"):
            client(photographs[0])
        assert not client.is_ready()


@pytest.mark.parametrize("name", ["inference_service", "tf_serving"])
def test_manifests_have_only_fields_that_kserve_knows(name):
    manifest = yaml.safe_load((KSERVE / f"{name}.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = manifest["spec"]["predictor"]
    assert set(predictor) <= set(kserve.V1beta1PredictorSpec.attribute_map.values())
    if "model" in predictor:
        assert set(predictor["model"]) <= set(kserve.V1beta1ModelSpec.attribute_map.values())
        return
    (container,) = predictor["containers"]
    assert set(container) <= set(V1Container.attribute_map.values())
    command = [sys.executable, str(KSERVE / "server.py"), "--help"]
    options = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert {argument.partition("=")[0] for argument in container["args"]} <= set(options)


# in a process of its own, since the protocol buffers of KServe and Triton cannot be imported together
PARSE = """
import sys
from google.protobuf import json_format, text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
print(json_format.MessageToJson(text_format.Parse(sys.stdin.read(), ModelConfig())))
"""


def test_the_configuration_for_triton_fits_the_onnx_file_of_the_preset():
    folder = EXAMPLES / "triton" / MODEL
    text = (folder / "config.pbtxt").read_text()
    parsed = subprocess.run([sys.executable, "-c", PARSE], input=text, capture_output=True, text=True, check=True)
    config = json.loads(parsed.stdout)
    assert config["name"] == folder.name  # Triton requires it
    assert config["backend"] == "onnxruntime"
    size = [str(side) for side in presets.find(MODEL).config["image_size"]]
    # the tensors of docs/export.md, without the batch
    assert config["input"] == [{"name": "image", "dataType": "TYPE_FP32", "dims": [*size, "3"]}]
    assert config["output"] == [{"name": "saliency", "dataType": "TYPE_FP32", "dims": [*size, "1"]}]
    assert config["maxBatchSize"] > 1
    assert "dynamicBatching" in config
