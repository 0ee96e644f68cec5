"""Test both clients with servers that fail according to a script."""

import base64
import contextlib
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keras_recnet.export.serving import client as client_module
from keras_recnet.export.serving.client import Answer, ServerError
from keras_recnet.export.serving.grpc_client import GrpcClient
from keras_recnet.export.serving.rest_client import RestClient

NEIGHBOR = "Tensors with name 'x' from different tasks have different shapes and padding is turned off."
ANSWER = [Answer(0, b"PNG")]
GOOD, SLOW = "good", "slow"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(client_module, "_FIRST_PAUSE", 0.001)


@contextlib.contextmanager
def connected(kind, script, **options):
    """A client connected to a server that follows the script."""
    with (rest_server if kind is RestClient else grpc_server)(script) as url, kind("m", url, **options) as client:
        yield client


@contextlib.contextmanager
def rest_server(script):
    """A server whose answers are the entries of the script.

    Each is `GOOD`, `SLOW`, the bytes of a map, `(status, body)`, the headers of a 429, or None to close the connection.
    """
    steps = iter(script)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            step, headers = next(steps), {}
            if step == SLOW:
                time.sleep(0.5)
            if isinstance(step, dict):
                step, headers = (429, '{"error": "busy"}'), step
            if step is None:  # hang up
                self.close_connection = True
                return
            if step in (GOOD, SLOW):
                step = b"PNG"
            if isinstance(step, bytes):
                row = {"saliency_bytes": {"b64": base64.b64encode(step).decode()}, "status": 0}
                step = 200, json.dumps({"predictions": [row]})
            status, body = step
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body.encode())

        do_GET = do_POST

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert next(steps, "none left") == "none left"


@contextlib.contextmanager
def grpc_server(script):
    """A gRPC server whose answers are the entries of the script: `GOOD`, `SLOW`, bytes or `(code, details)`."""
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    steps = iter(script)

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            step = next(steps)
            if step == SLOW:
                time.sleep(0.5)
            elif isinstance(step, tuple):
                context.abort(grpc.StatusCode[step[0]], step[1])
            answer = predict_pb2.PredictResponse()
            answer.outputs["saliency_bytes"].string_val.append(step if isinstance(step, bytes) else b"PNG")
            answer.outputs["status"].int_val.append(0)
            return answer

    server = grpc.server(ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
    assert next(steps, "none left") == "none left"


@pytest.mark.parametrize(
    "failure",
    [
        *((429, "{}"), (502, "<html>Bad Gateway</html>"), (503, '{"error": "full"}'), (504, "{}"), None),
        *((400, json.dumps({"error": NEIGHBOR})), (500, '{"error": "Tensor concat operation failed: x"}')),
    ],
)
def test_rest_retries_after_a_temporary_failure(failure):
    with connected(RestClient, [failure, failure, GOOD], retries=2) as client:
        assert client.send([b"x"]) == ANSWER


@pytest.mark.parametrize(
    "failure",
    [
        *(("UNAVAILABLE", "full"), ("DEADLINE_EXCEEDED", "late"), ("RESOURCE_EXHAUSTED", "busy")),
        *(("FAILED_PRECONDITION", NEIGHBOR), ("INTERNAL", "Tensor concat operation failed: x")),
    ],
)
def test_grpc_retries_after_a_temporary_failure(failure):
    with connected(GrpcClient, [failure, failure, GOOD], retries=2) as client:
        assert client.send([b"x"]) == ANSWER


def test_waits_as_long_as_the_server_asks():
    with connected(RestClient, [{"Retry-After": "1"}, GOOD]) as client:
        start = time.monotonic()
        assert client.send([b"x"]) == ANSWER
        assert time.monotonic() - start >= 1.0


@pytest.mark.parametrize("value", ["3600", "9" * 400, "Wed, 21 Oct 2037 07:28:00 GMT", "²", "-1"])
def test_waits_no_longer_than_a_minute_if_a_server_asks_for_more(monkeypatch, value):
    pauses = []
    event = SimpleNamespace(wait=pauses.append)
    monkeypatch.setattr(client_module, "threading", SimpleNamespace(Event=lambda: event))
    with connected(RestClient, [{"Retry-After": value}, GOOD]) as client:
        assert client.send([b"x"]) == ANSWER
    assert [pause == 60.0 for pause in pauses] == [value.startswith(("3", "9"))]


@pytest.mark.parametrize(
    ("kind", "failure", "message", "code"),
    [
        (RestClient, (503, '{"error": "full"}'), r"HTTP 503: full Tried 3 times\.", 503),
        (GrpcClient, ("UNAVAILABLE", "full"), r"UNAVAILABLE: full.* Tried 3 times\.", "UNAVAILABLE"),
    ],
)
def test_the_final_error_reports_the_number_of_attempts(kind, failure, message, code):
    with connected(kind, [failure] * 3, retries=2) as client, pytest.raises(ServerError, match=message) as caught:
        client.send([b"x"])
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("kind", "failure", "message"),
    [
        (RestClient, (400, '{"error": "bad"}'), "HTTP 400: bad$"),
        (RestClient, (404, '{"error": "none"}'), "HTTP 404: none$"),
        (RestClient, (413, "<html>too much</html>"), "HTTP 413: <html>too much</html>$"),
        (GrpcClient, ("INVALID_ARGUMENT", "bad"), "INVALID_ARGUMENT: bad$"),
    ],
)
def test_does_not_retry_after_a_permanent_failure(kind, failure, message):
    with connected(kind, [failure]) as client, pytest.raises(ServerError, match=message):
        client.send([b"x"])


@pytest.mark.parametrize("kind", [RestClient, GrpcClient])
def test_waits_no_longer_than_the_timeout(kind):
    with connected(kind, [SLOW, GOOD], timeout=0.2) as client:
        assert client.send([b"x"]) == ANSWER
    message = r"no answer within 0\.1 s"
    with connected(kind, [SLOW], timeout=0.1, retries=0) as client, pytest.raises(ServerError, match=message):
        client.send([b"x"])


@pytest.mark.parametrize("body", ["{}", "[]", '{"predictions": [1]}', '{"predictions": [{"status": 0}]}', "no JSON"])
def test_rest_reports_an_answer_that_is_not_from_a_recnet(body):
    with connected(RestClient, [(200, body)]) as client, pytest.raises(ServerError, match=r"lacks|HTTP 200"):
        client.send([b"x"])


@pytest.mark.parametrize(("kind", "message"), [(RestClient, "1 answers for 2"), (GrpcClient, "of an image")])
def test_reports_the_wrong_number_of_answers(kind, message):
    with connected(kind, [GOOD]) as client, pytest.raises(ServerError, match=message):
        client.send([b"x", b"y"])


@pytest.mark.parametrize(("kind", "url"), [(RestClient, "http://127.0.0.1:9"), (GrpcClient, "127.0.0.1:9")])
def test_reports_that_there_is_no_server(kind, url):
    with kind("m", url, retries=1) as client:
        assert not client.is_ready()
        with pytest.raises(ServerError, match=r"Is the server running\?.* Tried 2 times\."):
            client.send([b"x"])
        with pytest.raises(ServerError, match="not ready after 0 s"):
            client.wait_until_ready(0)


def test_reports_an_invalid_address():
    with RestClient("m", "localhost:8501") as client, pytest.raises(ServerError, match="invalid address"):
        client.send([b"x"])


@pytest.mark.parametrize("kind", [RestClient, GrpcClient])
@pytest.mark.parametrize(
    "saliency_map",
    [
        *(np.zeros(shape, np.uint8) for shape in ((4, 6), (5, 5, 3), (5, 5, 4))),
        *(np.zeros((5, 5), dtype) for dtype in (np.uint16, bool)),
    ],
)
def test_reports_a_map_of_the_wrong_size_or_type(kind, saliency_map):
    with (
        connected(kind, [png(saliency_map)]) as client,
        pytest.raises(ServerError, match=r"image 0: .*the map is not an 8-bit gray PNG file of 5 × 5 pixels"),
    ):
        client(np.zeros((5, 5, 3), np.uint8))


@pytest.mark.parametrize("kind", [RestClient, GrpcClient])
def test_reports_a_damaged_map(kind):
    good = png(np.zeros((5, 5), np.uint8))
    with connected(kind, [good]) as client:
        assert client(np.zeros((5, 5, 3), np.uint8)).shape == (5, 5)
    for damaged in (b"", b"not a PNG file", good[:40]):
        with connected(kind, [damaged]) as client, pytest.raises(ServerError, match="the map is not an 8-bit gray PNG"):
            client(np.zeros((5, 5, 3), np.uint8))


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        ((200, '{"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}'), True),
        ((200, '{"model_version_status": [{"version": "1", "state": "LOADING"}]}'), False),
        ((200, '{"name": "m", "ready": true}'), True),  # KServe
        ((200, '{"name": "m", "ready": false}'), False),
        ((503, '{"error": "Model with name m is not ready."}'), False),
        ((404, '{"error": "Model with name m does not exist."}'), False),
    ],
)
def test_a_model_is_ready_when_tf_serving_or_kserve_says_so(answer, ready):
    with connected(RestClient, [answer]) as client:
        assert client.is_ready() == ready


@pytest.mark.parametrize(("kind", "failure"), [(RestClient, None), (GrpcClient, ("UNAVAILABLE", "full"))])
def test_after_an_interruption_requests_are_not_repeated(kind, failure, monkeypatch):
    monkeypatch.setattr(client_module, "_FIRST_PAUSE", 30)
    with connected(kind, [failure], retries=5) as client:
        maps = client.map(iter_interrupted(), batch_size=1, jobs=2)
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            next(maps)
    assert time.monotonic() - start < 15


def iter_interrupted():
    """One image, and Ctrl-C while its request waits for a repetition."""
    yield np.zeros((4, 4, 3), np.uint8)
    time.sleep(1)
    raise KeyboardInterrupt
