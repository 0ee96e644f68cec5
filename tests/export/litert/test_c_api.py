"""The SavedModel in TensorFlow's C API, whose loader TF Serving uses, in a process without TensorFlow's Python API."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_recnet.export import sample_images

LIBRARY = Path(find_spec("tensorflow").origin).with_name("libtensorflow_cc.so.2")

# ctypes calls of the functions in c_api.h; data types: 1 is float32, 3 is int32, 7 is string
SCRIPT = """
import ctypes, json, sys
import numpy as np

library, model, calls = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
c = ctypes.CDLL(library)
for name in ("TF_NewStatus", "TF_NewGraph", "TF_NewSessionOptions", "TF_LoadSessionFromSavedModel", "TF_Message",
             "TF_GraphOperationByName", "TF_AllocateTensor", "TF_TensorData"):
    getattr(c, name).restype = ctypes.c_void_p
c.TF_Message.restype = ctypes.c_char_p
c.TF_Dim.restype = ctypes.c_int64
c.TF_TensorByteSize.restype = ctypes.c_size_t

class Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]

class View(ctypes.Structure):  # TF_TString that refers to bytes of another owner
    _fields_ = [("size", ctypes.c_size_t), ("data", ctypes.c_char_p), ("owner", ctypes.c_void_p)]

status, graph = ctypes.c_void_p(c.TF_NewStatus()), ctypes.c_void_p(c.TF_NewGraph())

def check():
    if c.TF_GetCode(status):
        raise SystemExit(c.TF_Message(status).decode())

tags = (ctypes.c_char_p * 1)(b"serve")
session = ctypes.c_void_p(c.TF_LoadSessionFromSavedModel(
    ctypes.c_void_p(c.TF_NewSessionOptions()), None, model.encode(), tags, 1, graph, None, status))
check()

def output(name):
    operation, _, index = name.partition(":")
    pointer = c.TF_GraphOperationByName(graph, operation.encode())
    if not pointer:
        raise SystemExit(f"no operation {operation}")
    return Output(pointer, int(index))

def run(call):
    if call["type"] == 1:
        value = np.load(call["value"])
        shape, size = value.shape, value.nbytes
    else:
        files = [open(name, "rb").read() for name in call["value"]]
        shape, size = (len(files),), len(files) * ctypes.sizeof(View)
    tensor = ctypes.c_void_p(c.TF_AllocateTensor(
        call["type"], (ctypes.c_int64 * len(shape))(*shape), len(shape), ctypes.c_size_t(size)))
    address = c.TF_TensorData(tensor)
    if call["type"] == 1:
        ctypes.memmove(address, value.ctypes.data, size)
    else:
        for view, file in zip((View * len(files)).from_address(address), files):
            view.size, view.data, view.owner = len(file) << 2 | 3, file, None
    outputs = (Output * 1)(output(call["output"]))
    values = (ctypes.c_void_p * 1)()
    c.TF_SessionRun(session, None, (Output * 1)(output(call["input"])), (ctypes.c_void_p * 1)(tensor), 1,
                    outputs, values, 1, None, 0, None, status)
    check()
    result = ctypes.c_void_p(values[0])
    shape = [c.TF_Dim(result, index) for index in range(c.TF_NumDims(result))]
    kind = {1: np.float32, 3: np.int32}[c.TF_TensorType(result)]
    raw = ctypes.string_at(c.TF_TensorData(result), c.TF_TensorByteSize(result))
    np.save(call["result"], np.frombuffer(raw, kind).reshape(shape))

for call in calls:
    run(call)
assert not {"tensorflow", "keras", "keras_recnet"} & set(sys.modules)
"""


@pytest.mark.skipif(not LIBRARY.is_file(), reason="no libtensorflow_cc.so.2 in this TensorFlow")
def test_a_saved_model_runs_in_the_c_api(tiny_saved_model, tmp_path):
    loaded = tf.saved_model.load(tiny_saved_model["folder"])
    names = tensors_of(tiny_saved_model["folder"])
    images = sample_images.draw((60, 80))[None].astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    files = {"good.png": sample_images.encode_png(sample_images.draw((60, 80))), "bad.png": b"garbage"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    calls = [
        {
            "type": 1,
            "value": str(tmp_path / "images.npy"),
            "input": names["serving_default"]["inputs"]["images"],
            "output": names["serving_default"]["outputs"]["saliency"],
            "result": str(tmp_path / "saliency.npy"),
        },
        {
            "type": 7,
            "value": [str(tmp_path / name) for name in files],
            "input": names["encoded"]["inputs"]["image_bytes"],
            "output": names["encoded"]["outputs"]["status"],
            "result": str(tmp_path / "status.npy"),
        },
    ]
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-I", script, LIBRARY, tiny_saved_model["folder"], json.dumps(calls)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = loaded.signatures["serving_default"](images=tf.constant(images))["saliency"]
    np.testing.assert_allclose(np.load(tmp_path / "saliency.npy"), expected, atol=1e-6)
    assert np.load(tmp_path / "status.npy").tolist() == [0, 1]


def tensors_of(folder):
    """Read from the file: signature → "inputs" and "outputs" → name → name of the tensor in the graph."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((Path(folder) / "saved_model.pb").read_bytes())
    return {
        name: {
            kind: {key: tensor.name for key, tensor in getattr(signature, kind).items()}
            for kind in ("inputs", "outputs")
        }
        for name, signature in saved.meta_graphs[0].signature_def.items()
    }
