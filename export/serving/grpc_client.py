"""A client of TF Serving's gRPC interface: `python -m keras_recnet.export.serving.grpc_client photo.jpg -o maps`.

The messages come from `tensorflow-serving-api`, which needs TensorFlow to be installed and takes seconds to import. The
pictures go as they are, where JSON takes a third more; the REST client is the one that installs small.
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
    """Pictures in, maps out, over gRPC.

    Args:
        model: the name under which the server has the model.
        target: of the server, `HOST:PORT`.
        credentials: `grpc.ChannelCredentials` for a secure channel; None: an insecure one.
        **options: as of `Client`; `timeout` is the deadline of one attempt.

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
                'The gRPC client needs more packages: pip install "keras-recnet[serving-client-grpc]". Missing: '
                f"{error.name}"
            ) from error
        self._grpc, self.target = grpc, target
        self._new_request, self._new_status_request = (
            predict_pb2.PredictRequest,
            get_model_status_pb2.GetModelStatusRequest,
        )
        # gRPC's own limit is 4 MB, a few photographs.
        limits = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        # Retries are ours: those of gRPC share one deadline, so a request that was too slow is never sent again.
        settings = [*limits, ("grpc.enable_retries", 0)]
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
        self._name(request.model_spec)
        try:
            answer = self._status(request, timeout=self.timeout)
        except self._grpc.RpcError:
            return False
        return any(version.state == _AVAILABLE for version in answer.model_version_status)

    def close(self) -> None:
        self._channel.close()

    def _ask(self, files: Sequence[bytes]) -> list[Answer]:
        request = self._new_request()
        self._name(request.model_spec)
        request.model_spec.signature_name = SIGNATURE
        tensor = request.inputs[IMAGES]
        tensor.dtype = _DT_STRING
        tensor.tensor_shape.dim.add(size=len(files))
        tensor.string_val.extend(files)
        try:
            outputs = self._predict(request, timeout=self.timeout).outputs
        except self._grpc.RpcError as error:
            raise self._error(error) from error
        # proto3 leaves nothing out of these: a server sends each value, unless it was told to send packed content
        maps, status = outputs[MAPS].string_val, outputs[STATUS].int_val
        if len(maps) != len(status) or len(maps) != len(files):
            raise ServerError(
                f"{self}: an answer without {MAPS} and {STATUS} of each picture. Is it a RecNet's export, and does the "
                f"server run without --enable_serialization_as_tensor_content?"
            )
        return [Answer(*answer) for answer in zip(status, maps, strict=True)]

    def _name(self, spec):
        spec.name = self.model
        if self.version is not None:
            spec.version.value = self.version

    def _error(self, error):
        code, why = error.code().name, error.details()
        if code == "DEADLINE_EXCEEDED":
            why = f"no answer within {self.timeout:g} s. Send fewer pictures at once, or wait longer (timeout)."
        elif code == "UNAVAILABLE":
            why = f"{why}. Does the server run?"
        return ServerError(f"{self}: {code}: {why}", code=code, temporary=code in _TEMPORARY)


if __name__ == "__main__":
    from keras_recnet.cli.remote import main

    sys.exit(main(GrpcClient, TARGET))
