"""TF Serving's REST API: predict, status and metadata of a model (model_servers/http_rest_api_handler.cc)."""

import json
import re
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import json_tensors
import memory
from errors import StatusError
from google.protobuf import json_format

_PREDICT = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:(classify|regress|predict)")
_STATUS = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata)?")


def start(models, port):
    """Start the server on the loopback address, in threads, and return it."""
    handler = type("Handler", (_Handler,), {"models": models})
    server = _Server(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(lambda: self._predict(body))

    def do_GET(self):
        self._answer(self._look_up)

    def log_message(self, *args):
        pass

    def _predict(self, body):
        match = _PREDICT.fullmatch(self.path)
        if not match:
            raise StatusError("INVALID_ARGUMENT", f"Malformed request: POST {self.path}")
        model = self._model(match[1], match[2], "Servable not found for request: {request}")
        if match[3] != "predict":
            raise StatusError("INVALID_ARGUMENT", f"Expected {match[3]} signature method_name")

        def signature_of(name):
            return model.signature(name, "INVALID_ARGUMENT")

        name, tensors, in_rows = json_tensors.read(body, signature_of)
        return json_tensors.write(model.predict(name, tensors), in_rows)

    def _look_up(self):
        # two paths that TF Serving does not have
        if self.path == "/test/batches":
            return {name: dict(model.batcher.requests) for name, model in self.models.items() if model.batcher}
        if self.path == "/test/memory":
            return memory.used()
        match = _STATUS.fullmatch(self.path)
        if not match:
            raise StatusError("INVALID_ARGUMENT", f"Malformed request: GET {self.path}")
        name, version, metadata = match.groups()
        missing = (
            "Could not find any versions of model {name}" if version is None else "Could not find version {version}"
        )
        model = self._model(name, version, missing)
        if metadata:
            signatures = {key: json_format.MessageToDict(value) for key, value in model.signatures.items()}
            spec = {"name": name, "signature_name": "", "version": str(model.version)}
            return {"model_spec": spec, "metadata": {"signature_def": {"signature_def": signatures}}}
        status = {"error_code": "OK", "error_message": ""}
        return {"model_version_status": [{"version": str(model.version), "state": "AVAILABLE", "status": status}]}

    def _model(self, name, version, missing):
        model = self.models.get(name)
        if model is None or version not in (None, str(model.version)):
            request = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise StatusError("NOT_FOUND", missing.format(name=name, version=version, request=request))
        return model

    def _answer(self, work):
        try:
            status, answer = 200, work()
        except StatusError as error:
            status, answer = error.http, {"error": str(error)}
        except Exception as error:  # a bug of this server
            traceback.print_exc()
            status, answer = 500, {"error": f"{type(error).__name__}: {error}"}
        body = json.dumps(answer).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:  # the client has disconnected
            self.close_connection = True
