"""Request batching as in TF Serving (batching_session.cc and shared_batch_scheduler.h), without padding."""

import collections
import threading
import time
from concurrent.futures import Future

import numpy as np
from errors import StatusError
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

# tensorflow_serving/servables/tensorflow/session_bundle_config.proto, which the Python package lacks.
_WRAPPED = {
    "max_batch_size": (1, "Int64Value"),
    "batch_timeout_micros": (2, "Int64Value"),
    "max_enqueued_batches": (3, "Int64Value"),
    "num_batch_threads": (4, "Int64Value"),
    "thread_pool_name": (5, "StringValue"),
    "enable_large_batch_splitting": (8, "BoolValue"),
    "max_execution_batch_size": (9, "Int64Value"),
}
_DEFAULTS = {"max_batch_size": 1000, "batch_timeout_micros": 0, "max_enqueued_batches": 10, "num_batch_threads": 4}


def parse(text):
    """Parse a BatchingParameters message in the text format."""
    field = descriptor_pb2.FieldDescriptorProto
    message = descriptor_pb2.DescriptorProto(name="BatchingParameters")
    for name, (number, kind) in _WRAPPED.items():
        message.field.add(
            name=name,
            number=number,
            type=field.TYPE_MESSAGE,
            label=field.LABEL_OPTIONAL,
            type_name=f".google.protobuf.{kind}",
        )
    message.field.add(name="allowed_batch_sizes", number=6, type=field.TYPE_INT64, label=field.LABEL_REPEATED)
    message.field.add(name="pad_variable_length_inputs", number=7, type=field.TYPE_BOOL, label=field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="batching_parameters.proto",
        package="tensorflow.serving",
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
        message_type=[message],
    )
    pool.AddSerializedFile(file.SerializeToString())
    parameters = message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.BatchingParameters"))()
    text_format.Parse(text, parameters)
    if (
        parameters.allowed_batch_sizes
        or parameters.pad_variable_length_inputs
        or parameters.enable_large_batch_splitting.value
    ):
        raise ValueError("The fake server supports no padding of batches or images, and no splitting.")
    return parameters


class _Task:
    def __init__(self, inputs, size):
        self.inputs, self.size, self.answer = inputs, size, Future()


class _Batch:
    def __init__(self, deadline):
        self.tasks, self.size, self.deadline = [], 0, deadline


class Batcher:
    """Batches requests: one queue per combination of inputs and outputs, with shared threads.

    Args:
        run: (key, inputs) → outputs, both dicts of arrays; called from several threads.
        parameters: from `parse`.

    Attributes:
        requests: number of requests in a batch → number of such batches.
    """

    def __init__(self, run, parameters):
        values = {
            name: getattr(parameters, name).value if parameters.HasField(name) else default
            for name, default in _DEFAULTS.items()
        }
        self._run, self._max, self._most_waiting = run, values["max_batch_size"], values["max_enqueued_batches"]
        self._timeout = values["batch_timeout_micros"] / 1e6
        self._queues = collections.OrderedDict()
        self._changed = threading.Condition()
        self.requests = collections.Counter()
        for _ in range(values["num_batch_threads"]):
            threading.Thread(target=self._work, daemon=True).start()

    def __call__(self, key, inputs):
        """Return the outputs of a request, which may be batched with others.

        Raises:
            StatusError: if this request or another one in its batch fails.
        """
        task = _Task(inputs, _size(inputs))
        if task.size > self._max:
            raise StatusError(
                "INVALID_ARGUMENT", f"Task size {task.size} is larger than maximum input batch size {self._max}"
            )
        with self._changed:
            queue = self._queues.setdefault(key, collections.deque())
            if not queue or queue[-1].size + task.size > self._max:
                if len(queue) >= self._most_waiting:
                    raise StatusError(
                        "UNAVAILABLE",
                        "The batch scheduling queue to which this task was submitted is full; currently "
                        f"{len(queue)} batches enqueued and max_enqueued_batches is {self._most_waiting}",
                    )
                queue.append(_Batch(time.monotonic() + self._timeout))
            queue[-1].tasks.append(task)
            queue[-1].size += task.size
            self._changed.notify()
        return task.answer.result()

    def _work(self):
        while True:
            with self._changed:
                while (ready := self._next()) is None:
                    deadlines = [queue[0].deadline for queue in self._queues.values() if queue]
                    self._changed.wait(max(0.0, min(deadlines) - time.monotonic()) if deadlines else None)
                key, batch = ready
                self.requests[len(batch.tasks)] += 1
            try:
                answers = self._run_batch(key, batch)
            except Exception as error:  # fails the whole batch, as in TF Serving
                for task in batch.tasks:
                    task.answer.set_exception(error)
            else:
                for task, answer in zip(batch.tasks, answers, strict=True):
                    task.answer.set_result(answer)

    def _next(self):
        """Return the next (key, batch) that is full, due or followed by another batch; None if there is none."""
        now = time.monotonic()
        for key, queue in self._queues.items():
            if queue and (len(queue) > 1 or queue[0].size >= self._max or queue[0].deadline <= now):
                self._queues.move_to_end(key)  # for fairness
                return key, queue.popleft()
        return None

    def _run_batch(self, key, batch):
        merged = {}
        for name, first in batch.tasks[0].inputs.items():
            arrays = [task.inputs[name] for task in batch.tasks]
            if any(array.shape[1:] != first.shape[1:] for array in arrays):
                raise StatusError(
                    "FAILED_PRECONDITION",
                    f"Tensors with name '{name}' from different tasks have different shapes and padding is turned off. "
                    "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name have equal "
                    "dimensions starting with the first dim.",
                )
            if any(array.dtype != first.dtype for array in arrays):
                raise StatusError("INTERNAL", "Tensor concat operation failed: INVALID_ARGUMENT: types differ")
            merged[name] = first if len(arrays) == 1 else np.concatenate(arrays)
        outputs = self._run(key, merged)
        if any(not array.ndim or len(array) != batch.size for array in outputs.values()):
            raise StatusError(
                "FAILED_PRECONDITION",
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                "tensors",
            )
        places = np.cumsum([task.size for task in batch.tasks])[:-1]
        parts = {name: np.split(array, places) for name, array in outputs.items()}
        return [{name: arrays[place] for name, arrays in parts.items()} for place in range(len(batch.tasks))]


def _size(inputs):
    if any(not array.ndim for array in inputs.values()):
        raise StatusError("INVALID_ARGUMENT", "Batching Run() input tensors must have at least one dimension")
    sizes = {len(array) for array in inputs.values()}
    if len(sizes) != 1:
        raise StatusError("INVALID_ARGUMENT", "Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()
