"""TF Serving's gRPC API: Predict, GetModelMetadata, GetModelStatus."""

import contextlib
import traceback
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import tensorflow as tf
from errors import StatusError
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

_AVAILABLE = 30
_LARGEST = 2**31 - 1  # TF Serving's limit for messages


def start(models, port):
    """Start the server on the loopback address and return (server, port)."""
    limits = [("grpc.max_send_message_length", _LARGEST), ("grpc.max_receive_message_length", _LARGEST)]
    server = grpc.server(ThreadPoolExecutor(32), options=limits)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Prediction(models), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(models), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, port


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models):
        self.models = models

    def Predict(self, request, context):
        with _abort_on_error(context):
            model = _find(self.models, request.model_spec)
            tensors = {name: _array(name, proto) for name, proto in request.inputs.items()}
            name = request.model_spec.signature_name
            outputs = model.predict(name, tensors, tuple(request.output_filter))
            answer = predict_pb2.PredictResponse()
            _describe(answer.model_spec, model, name or "serving_default")
            for key, array in outputs.items():
                _fill(answer.outputs[key], array)
            return answer

    def GetModelMetadata(self, request, context):
        with _abort_on_error(context):
            model = _find(self.models, request.model_spec)
            answer = get_model_metadata_pb2.GetModelMetadataResponse()
            _describe(answer.model_spec, model)
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, signature in model.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
            answer.metadata["signature_def"].Pack(signatures)
            return answer


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, models):
        self.models = models

    def GetModelStatus(self, request, context):
        with _abort_on_error(context):
            model = _find(self.models, request.model_spec)
            answer = get_model_status_pb2.GetModelStatusResponse()
            answer.model_version_status.add(version=model.version, state=_AVAILABLE)
            return answer


@contextlib.contextmanager
def _abort_on_error(context):
    try:
        yield
    except StatusError as error:
        context.abort(grpc.StatusCode[error.code], str(error))
    except Exception as error:
        if type(error) is not Exception:  # `abort` raises an `Exception` itself
            traceback.print_exc()
        raise


def _find(models, spec):
    model = models.get(spec.name)
    if model is None or (spec.HasField("version") and spec.version.value != model.version):
        raise StatusError("NOT_FOUND", f"Servable not found for request: Latest({spec.name})")
    return model


def _describe(spec, model, signature_name=""):
    spec.name, spec.signature_name = model.name, signature_name
    spec.version.value = model.version


def _array(name, proto):
    try:
        return np.asarray(tf.make_ndarray(proto))
    except (TypeError, ValueError) as error:
        raise StatusError("INVALID_ARGUMENT", f"tensor parsing error: {name}") from error


def _fill(proto, array):
    """Fill a tensor value by value, as TF Serving does without `--enable_serialization_as_tensor_content`."""
    proto.dtype = tf.as_dtype(array.dtype if array.dtype != object else tf.string).as_datatype_enum
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if array.dtype == object:
        proto.string_val.extend(array.ravel())
    elif array.dtype == np.int32:
        proto.int_val.extend(array.ravel().tolist())
    else:
        proto.float_val.extend(array.ravel().tolist())
