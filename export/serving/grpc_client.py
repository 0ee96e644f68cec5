"""Client of TF Serving's gRPC API, with a command: `python -m keras_recnet.export.serving.grpc_client a.jpg -o out`.

The messages come from `tensorflow-serving-api`, which needs TensorFlow and takes seconds to import. Requests are a
quarter smaller than the REST client's.
"""

import sys
from collections.abc import Sequence

from keras_recnet.errors import MissingExtraError
from keras_recnet.export.serving.client import IMAGES, MAPS, SIGNATURE, STATUS, Answer, Client, ServerError

TARGET = "localhost:8500"
_TEMPORARY = frozenset(("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"))
_DT_STRING = 7  # of tensorflow/core/framework/types.proto
_AVAILABLE = 30  # of tensorflow_serving/apis/get_model_status.proto


class GrpcClient(Client):
    """Client of a RecNet in TF Serving, over gRPC.

    Args:
        model: name of the model on the server.
        target: address of the server, `HOST:PORT`.
        credentials: `grpc.ChannelCredentials` for a secure channel; None: an insecure one.
        **options: other arguments of `Client`; `timeout` is the deadline of one attempt.

    Raises:
        MissingExtraError: if tensorflow-serving-api is not installed.

    Example:
        >>> with GrpcClient("recnet_lite0") as client:
        ...     client.wait_until_ready()
        ...     saliency_map = client("photo.jpg")
    """

    def __init__(self, model: str = "recnet_lite0", target: str = TARGET, *, credentials=None, **options):
        super().__init__(model, **options)
        try:
            import grpc
            from tensorflow_serving.apis import (
                get_model_status_pb2,
                model_service_pb2_grpc,
                predict_pb2,
                prediction_service_pb2_grpc,
            )
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                f'The gRPC client needs {error.name}: pip install "keras-recnet[serving-client-grpc]".'
            ) from error
        self._grpc, self.target = grpc, target
        self._new_request = predict_pb2.PredictRequest
        self._new_status_request = get_model_status_pb2.GetModelStatusRequest
        settings = [
            # gRPC's default limit is 4 MB, a few photographs
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            # gRPC's retries share one deadline, so a request that timed out would never be sent again
            ("grpc.enable_retries", 0),
        ]
        if credentials is None:
            self._channel = grpc.insecure_channel(target, options=settings)
        else:
            self._channel = grpc.secure_channel(target, credentials, options=settings)
        self._predict = prediction_service_pb2_grpc.PredictionServiceStub(self._channel).Predict
        self._status = model_service_pb2_grpc.ModelServiceStub(self._channel).GetModelStatus

    def __str__(self):
        return f"{self.target}/{self.model}"

    def is_ready(self) -> bool:
        request = self._new_status_request()
        self._set_model(request.model_spec)
        try:
            answer = self._status(request, timeout=self.timeout)
        except self._grpc.RpcError:
            return False
        return any(version.state == _AVAILABLE for version in answer.model_version_status)

    def close(self) -> None:
        self._channel.close()

    def _request(self, files: Sequence[bytes]) -> list[Answer]:
        request = self._new_request()
        self._set_model(request.model_spec)
        request.model_spec.signature_name = SIGNATURE
        tensor = request.inputs[IMAGES]
        tensor.dtype = _DT_STRING
        tensor.tensor_shape.dim.add(size=len(files))
        tensor.string_val.extend(files)
        try:
            outputs = self._predict(request, timeout=self.timeout).outputs
        except self._grpc.RpcError as error:
            raise self._error(error) from error
        maps, status = outputs[MAPS].string_val, outputs[STATUS].int_val
        if len(maps) != len(status) or len(maps) != len(files):
            raise ServerError(
                f"{self}: the answer lacks {MAPS} or {STATUS} of an image. Check that the model is an exported RecNet "
                f"and that the server runs without --enable_serialization_as_tensor_content."
            )
        return [Answer(*answer) for answer in zip(status, maps, strict=True)]

    def _set_model(self, spec):
        spec.name = self.model
        if self.version is not None:
            spec.version.value = self.version

    def _error(self, error):
        code, reason = error.code().name, error.details()
        if code == "DEADLINE_EXCEEDED":
            reason = f"no answer within {self.timeout:g} s. Send fewer images per request, or increase the timeout."
        elif code == "UNAVAILABLE":
            reason = f"{reason}. Is the server running?"
        return ServerError(f"{self}: {code}: {reason}", code=code, temporary=code in _TEMPORARY)


if __name__ == "__main__":
    from keras_recnet.cli.remote import main

    sys.exit(main(GrpcClient, TARGET))
