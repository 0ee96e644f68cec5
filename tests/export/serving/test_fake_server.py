"""Bad requests and batched requests to the fake server: each is answered, and the server keeps running."""

import base64
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests

from keras_recnet.export.serving.client import Answer, ServerError
from keras_recnet.export.serving.grpc_client import GrpcClient
from keras_recnet.export.serving.rest_client import RestClient


@pytest.fixture(scope="module")
def post(server):
    """`post(signature, **body)` sends a request to the tiny model and returns (status, JSON)."""
    with requests.Session() as session:

        def send(signature=None, **body):
            named = {} if signature is None else {"signature_name": signature}
            answer = session.post(f"{server.url}/v1/models/tiny:predict", json={**named, **body}, timeout=30)
            return answer.status_code, answer.json()

        yield send


@pytest.fixture(scope="module")
def predict(server):
    """`predict(signature, name=array)` sends a request over gRPC and returns name → array."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    with grpc.insecure_channel(server.target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def send(signature, **inputs):
            request = predict_pb2.PredictRequest()
            request.model_spec.name, request.model_spec.signature_name = "tiny", signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            return {name: tf.make_ndarray(proto) for name, proto in stub.Predict(request, timeout=30).outputs.items()}

        yield send


def together(*calls):
    """Make the calls at the same time, and return what they return or raise."""
    start = threading.Barrier(len(calls))

    def do(call):
        start.wait()
        try:
            return call()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(do, calls))


def batched(server):
    """Return the number of requests that were batched with others."""
    return sum(requests * count for requests, count in server.batches()["tiny"].items() if requests > 1)


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


def test_rows_and_columns_give_the_same_outputs(post, save_photo):
    rows, columns = [b64(save_photo("a.jpg").read_bytes()), b64(b"garbage")], {}
    columns["image_bytes"] = rows
    status, by_row = post("encoded", instances=[{"image_bytes": row} for row in rows])
    assert status == 200
    assert [row["status"] for row in by_row["predictions"]] == [0, 1]
    for body in ({"instances": rows}, {"inputs": rows}, {"inputs": columns}):
        status, answer = post("encoded", **body)
        assert status == 200
        if "inputs" in body:
            outputs = answer["outputs"]
            maps = zip(outputs["saliency_bytes"], outputs["status"], strict=True)
            answer = {"predictions": [{"saliency_bytes": png, "status": code} for png, code in maps]}
        assert answer == by_row


def test_image_tensors_give_the_map_of_the_model(post, predict, assert_same, map_of):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    expected = map_of(image)
    status, answer = post(instances=[image.tolist()])
    assert status == 200
    by_row = np.array(answer["predictions"][0], np.float32)
    by_tensor = predict("serving_default", images=image[None].astype(np.float32))["saliency"][0]
    for saliency_map in (by_row, by_tensor):
        assert saliency_map.shape == (20, 30, 1)
        assert_same(saliency_map[..., 0], expected)


@pytest.mark.parametrize(
    ("signature", "body", "message"),
    [
        ("encoded", {"instances": []}, "No values"),
        ("encoded", {"inputs": []}, ""),
        ("encoded", {"instances": "x"}, "Expecting 'instances'"),
        ("encoded", {"instances": [1]}, "base64"),
        ("encoded", {"instances": [{"b64": "!"}]}, "base64"),
        ("encoded", {"instances": [{"other": b64(b"x")}]}, "must be equal to: image_bytes"),
        ("encoded", {"inputs": [["x"], ["y"]]}, "shape"),
        ("encoded", {"inputs": {"other": ["x"]}}, "Missing named input"),
        ("encoded", {}, "only one of"),
        ("encoded", {"inputs": ["x"], "instances": ["x"]}, "only one of"),
        (None, {"instances": [[[[1.0, 2.0]]]]}, ""),
        (None, {"instances": [1.0]}, "shape"),
        (None, {"instances": [[[["a", "b", "c"]]]]}, "not of expected type"),
        (None, {"instances": [[[[1, 2, 3], [1, 2]]]]}, "unexpected size"),
        (None, {"instances": [[[[1, 2, 3]]], [[[1, 2, 3], [1, 2, 3]]]]}, "Expecting shape"),
        (None, {"inputs": []}, "shape"),
        (None, {"inputs": [[[]]]}, "shape"),
        ("other", {"instances": [1]}, "not found"),
        (5, {"instances": [1]}, "must be a string"),
    ],
)
def test_answers_a_bad_body_with_400(post, signature, body, message):
    status, answer = post(signature, **body)
    assert status == 400
    assert message in answer["error"]


def test_answers_bad_paths_and_bad_json(server):
    cases = {"/v1/models/none:predict": 404, "/v1/models/tiny/versions/7:predict": 404, "/v1/models/tiny:do": 400}
    for path, status in {**cases, "/v1/models/tiny:classify": 400, "/v1/models/tiny:predict": 400}.items():
        answer = requests.post(server.url + path, data=b"{no JSON", timeout=30)
        assert answer.status_code == status
        assert set(answer.json()) == {"error"}
    cases = {"/v1/models/tiny": 200, "/v1/models/tiny/versions/1": 200, "/v1/models/tiny/metadata": 200}
    for path, status in {**cases, "/v1/models/none": 404, "/v1/models/tiny/versions/2": 404}.items():
        assert requests.get(server.url + path, timeout=30).status_code == status


def test_answers_bad_tensors_with_a_status(predict):
    import grpc

    bad = [
        ("serving_default", {"images": np.zeros((1, 8, 8, 3), np.uint8)}, "float32"),
        ("serving_default", {"images": np.zeros((8, 8, 3), np.float32)}, "shape"),
        ("serving_default", {"images": np.zeros((0, 8, 8, 3), np.float32)}, "empty"),
        ("serving_default", {"images": np.zeros((1, 0, 8, 3), np.float32)}, "empty"),
        ("serving_default", {"images": np.zeros((1, 400, 400, 3), np.float32)}, "100,000 pixels"),
        ("serving_default", {"images": np.float32(1)}, "dimension"),
        ("serving_default", {"images": np.zeros((13, 4, 4, 3), np.float32)}, "larger than maximum input batch size"),
        ("serving_default", {"other": np.zeros((1, 8, 8, 3), np.float32)}, "images"),
        ("encoded", {"image_bytes": np.zeros((1,), np.int32)}, "string"),
        ("encoded", {"image_bytes": [[b"x"]]}, "shape"),
    ]
    for signature, inputs, message in bad:
        with pytest.raises(grpc.RpcError) as caught:
            predict(signature, **inputs)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT, inputs
        assert message in caught.value.details()
    with pytest.raises(grpc.RpcError) as caught:
        predict("other", images=np.zeros((1, 8, 8, 3), np.float32))
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert predict("serving_default", images=np.zeros((1, 8, 8, 3), np.float32))["saliency"].shape == (1, 8, 8, 1)


def test_bad_files_do_not_fail_other_requests_of_the_batch(server, assert_same, map_of, save_photo):
    good = [save_photo(f"{side}.jpg", (side, 40)) for side in (24, 48, 72)]
    large = save_photo("large.png", (300, 400)).read_bytes()
    before = batched(server)
    with RestClient("tiny", server.url) as rest, GrpcClient("tiny", server.target) as grpc:
        calls = [lambda path=path, client=client: client(path) for path in good for client in (rest, grpc)]
        garbage = [lambda: rest.send([b"garbage"]), lambda: grpc.send([large, good[0].read_bytes()[:300], b""])]
        answers = together(*calls, *garbage)
    assert batched(server) - before >= 4
    for saliency_map, path in zip(answers[:6], np.repeat(good, 2), strict=True):
        assert_same(saliency_map, map_of(path))
    assert answers[6] == [Answer(1, b"")]
    assert answers[7] == [Answer(2, b""), Answer(1, b""), Answer(1, b"")]


def test_tensors_of_different_sizes_fail_as_in_tf_serving(server, predict):
    """The reason why docs/serving.md recommends files for batched requests."""

    def ask(height):
        return predict("serving_default", images=np.zeros((1, height, 8, 3), np.float32))

    for answer in together(lambda: ask(8), lambda: ask(16)):
        assert "from different tasks have different shapes" in answer.details()
    assert [answer["saliency"].shape for answer in together(lambda: ask(8), lambda: ask(8))] == [(1, 8, 8, 1)] * 2


def test_a_client_retries_when_another_request_fails_the_batch(server, post, assert_same, map_of, save_photo):
    path = save_photo("a.jpg")

    def disturb():
        return [post("encoded", inputs=[["x"]])[0] for _ in range(2)]

    with RestClient("tiny", server.url) as client:
        saliency_map, statuses = together(lambda: client(path), disturb)
    assert statuses == [400, 400]
    assert_same(saliency_map, map_of(path))


def test_refuses_a_request_larger_than_a_batch(server):
    with RestClient("tiny", server.url) as client, pytest.raises(ServerError, match="Task size 13 is larger"):
        client.send([b"x"] * 13)
