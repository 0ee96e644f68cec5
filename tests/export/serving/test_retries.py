"""Both clients against servers that fail by a script."""

import base64
import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from keras_recnet.export.serving import client as client_module
from keras_recnet.export.serving.client import Answer, ServerError
from keras_recnet.export.serving.grpc_client import GrpcClient
from keras_recnet.export.serving.rest_client import RestClient

NEIGHBOUR = "Tensors with name 'x' from different tasks have different shapes and padding is turned off."
ANSWER = [Answer(0, b"PNG")]
GOOD, SLOW, LATER = "good", "slow", "later"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(client_module, "_FIRST_PAUSE", 0.001)


@contextlib.contextmanager
def connected(kind, script, **options):
    """A client of the kind, connected to a server that follows the script."""
    with (rest_server if kind is RestClient else grpc_server)(script) as url, kind("m", url, **options) as client:
        yield client


@contextlib.contextmanager
def rest_server(script):
    """Answers as the script says, request by request: `GOOD`, `SLOW`, (status, body) or bytes to send raw."""
    steps = iter(script)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            step, headers = next(steps), {}
            if step == SLOW:
                time.sleep(0.5)
            if step == LATER:
                step, headers = (429, '{"error": "busy"}'), {"Retry-After": "1"}
            if step is None:  # hang up
                self.close_connection = True
                return
            predictions = {"predictions": [{"saliency_bytes": {"b64": base64.b64encode(b"PNG").decode()}, "status": 0}]}
            status, body = (200, json.dumps(predictions)) if step in (GOOD, SLOW) else step
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body.encode())

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
    """As `rest_server`, with (code, details) for a failure."""
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    steps = iter(script)

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            step = next(steps)
            if step == SLOW:
                time.sleep(0.5)
            elif step != GOOD:
                context.abort(grpc.StatusCode[step[0]], step[1])
            answer = predict_pb2.PredictResponse()
            answer.outputs["saliency_bytes"].string_val.append(b"PNG")
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
        *((400, json.dumps({"error": NEIGHBOUR})), (500, '{"error": "Tensor concat operation failed: x"}')),
    ],
)
def test_rest_tries_again_what_may_go_well_later(failure):
    with connected(RestClient, [failure, failure, GOOD], retries=2) as client:
        assert client.send([b"x"]) == ANSWER


@pytest.mark.parametrize(
    "failure",
    [
        *(("UNAVAILABLE", "full"), ("DEADLINE_EXCEEDED", "late"), ("RESOURCE_EXHAUSTED", "busy")),
        *(("FAILED_PRECONDITION", NEIGHBOUR), ("INTERNAL", "Tensor concat operation failed: x")),
    ],
)
def test_grpc_tries_again_what_may_go_well_later(failure):
    with connected(GrpcClient, [failure, failure, GOOD], retries=2) as client:
        assert client.send([b"x"]) == ANSWER


def test_waits_as_long_as_the_server_asks():
    with connected(RestClient, [LATER, GOOD]) as client:
        start = time.monotonic()
        assert client.send([b"x"]) == ANSWER
        assert time.monotonic() - start >= 1.0


@pytest.mark.parametrize(
    ("kind", "failure", "message", "code"),
    [
        (RestClient, (503, '{"error": "full"}'), r"HTTP 503: full Tried 3 times\.", 503),
        (GrpcClient, ("UNAVAILABLE", "full"), r"UNAVAILABLE: full.* Tried 3 times\.", "UNAVAILABLE"),
    ],
)
def test_gives_up_and_says_how_often_it_tried(kind, failure, message, code):
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
def test_does_not_repeat_what_will_fail_again(kind, failure, message):
    with connected(kind, [failure]) as client, pytest.raises(ServerError, match=message):
        client.send([b"x"])


@pytest.mark.parametrize("kind", [RestClient, GrpcClient])
def test_does_not_wait_longer_than_it_was_told(kind):
    with connected(kind, [SLOW, GOOD], timeout=0.2) as client:
        assert client.send([b"x"]) == ANSWER
    message = r"no answer within 0\.1 s"
    with connected(kind, [SLOW], timeout=0.1, retries=0) as client, pytest.raises(ServerError, match=message):
        client.send([b"x"])


@pytest.mark.parametrize("body", ["{}", "[]", '{"predictions": [1]}', '{"predictions": [{"status": 0}]}', "no JSON"])
def test_rest_says_when_an_answer_is_none_of_a_recnet(body):
    with connected(RestClient, [(200, body)]) as client, pytest.raises(ServerError, match=r"without|HTTP 200"):
        client.send([b"x"])


@pytest.mark.parametrize(("kind", "message"), [(RestClient, "1 answers for 2"), (GrpcClient, "of each picture")])
def test_says_when_the_answers_are_not_as_many_as_the_pictures(kind, message):
    with connected(kind, [GOOD]) as client, pytest.raises(ServerError, match=message):
        client.send([b"x", b"y"])


@pytest.mark.parametrize(("kind", "url"), [(RestClient, "http://127.0.0.1:9"), (GrpcClient, "127.0.0.1:9")])
def test_says_when_there_is_no_server(kind, url):
    with kind("m", url, retries=1) as client:
        assert not client.is_ready()
        with pytest.raises(ServerError, match=r"Does the server run\?.* Tried 2 times\."):
            client.send([b"x"])
        with pytest.raises(ServerError, match="not ready after 0 s"):
            client.wait_until_ready(0)


def test_says_when_an_address_is_none():
    with RestClient("m", "localhost:8501") as client, pytest.raises(ServerError, match="not a usable address"):
        client.send([b"x"])
