"""int8 quantization of a float32 LiteRT file with ai-edge-quantizer.

Convolutions and the operations between them compute in int8, with one scale per kernel channel. Preprocessing,
attention (BATCH_MATMUL and SOFTMAX), the recurrent unit, the last logits and the fusion stay in float32: LiteRT
computes an int8 × int8 BATCH_MATMUL several times more slowly than a float32 one, and the error of the logits goes
directly into the map.
"""

import os
import re
import warnings

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from keras_recnet.errors import ConfigError, ImageError
from keras_recnet.export import standalone_runner
from keras_recnet.export.exporting import CALIBRATION_IMAGES
from keras_recnet.export.litert import flatbuffer, signatures
from keras_recnet.files import named_files
from keras_recnet.imaging.reading import SUFFIXES, read
from keras_recnet.parallel import cores

SEED = 0
GROUP_SIZE = 5  # images per group in the calibration of a co-saliency network

# All other operations stay in float32.
OPERATIONS = (
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "ADD",
    "CONCATENATION",
    "RESIZE_BILINEAR",
    "MAX_POOL_2D",
    "PAD",
    "PADV2",
)
# So do operations with a result whose name contains one of these names of layers. The first two convolutions of
# EfficientNet-Lite have channels with very different ranges, and take little time.
FLOAT_LAYERS = (
    "preprocessing",
    "stem_conv",
    "block1_depthwise",
    "logits",
    "branches",
    "saliency",
    "group_gate",
)

_BIAS_LIMIT = 2**30  # half the range of int32, so that rounding cannot exceed it
_KERNEL_LIMIT = 127


def read_images(folder: str | os.PathLike, size: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    """Read images for the calibration, `CALIBRATION_IMAGES` chosen at random from a folder and its subfolders.

    Images that cannot be read are skipped, and others take their place.

    Args:
        folder: folder of images.
        size: `(height, width)` to resize the images to.

    Returns:
        uint8 `(images, height, width, 3)`, RGB; and the error messages of the images that were skipped.

    Raises:
        ConfigError: if no image can be read.
    """
    paths = sorted(path for _, path in named_files(folder, SUFFIXES))
    images, errors = [], []
    for index in np.random.default_rng(SEED).permutation(len(paths)):
        if len(images) == CALIBRATION_IMAGES:
            break
        try:
            images.append(read(paths[index], fit=size).rgb)
        except ImageError as error:
            errors.append(str(error))
    if not images:
        details = f" {len(errors)} files cannot be read, such as: {errors[0]}" if errors else ""
        raise ConfigError(f"{folder}: no images for the calibration.{details}")
    return np.stack(images), errors


def quantize(content: bytes, images: np.ndarray) -> bytes:
    """Quantize a float32 LiteRT file.

    Args:
        content: contents of the file, from TensorFlow's converter.
        images: uint8 `(images, height, width, 3)`, RGB. The range of each int8 tensor is a moving average of its
            smallest and largest value over these images.

    Returns:
        The contents of the int8 file. Its inputs and outputs are still float32.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors", category=UserWarning)
        warnings.filterwarnings("error", category=RuntimeWarning)  # NumPy's warnings about overflow and NaN
        inputs = _signature_inputs(content, images)
        ranges = _quantizer(content).calibrate(inputs, num_threads=cores())
        result = _quantizer(with_representable_biases(content, ranges)).quantize(ranges, enable_progress_report=False)
    return bytes(result.quantized_model)


def with_representable_biases(content: bytes, ranges: dict) -> bytes:
    """Raise the kernels of channels whose bias would not fit into int32, imperceptibly.

    The scale of an int8 convolution's int32 bias is the product of the scales of its input and its kernel. A channel
    that is dead after training has an almost zero kernel, so its scale is tiny and its bias overflows: instead of the
    constant bias, the channel computes noise. Therefore one weight of such a kernel is raised to the smallest value
    for which the bias fits; it changes the channel by at most 3·10⁻⁵ of its bias.

    Args:
        content: contents of a float32 LiteRT file.
        ranges: name of a tensor → `"min"` and `"max"`, the result of the calibration.

    Returns:
        The contents of the edited file.
    """
    model = flatbuffer.unpack(content)
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            code = flatbuffer.operation_code(model, operator)
            if code not in (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D):
                continue
            image, kernel, bias = (subgraph.tensors[index] for index in operator.inputs)
            observed = ranges.get(image.name.decode())
            if not observed:  # stays in float32
                continue
            channels_last = code == schema.BuiltinOperator.DEPTHWISE_CONV_2D  # otherwise they come first
            weights = np.asarray(model.buffers[kernel.buffer].data, "uint8").view("<f4").reshape(kernel.shape).copy()
            by_channel = (
                weights.reshape(-1, weights.shape[-1]).T if channels_last else weights.reshape(len(weights), -1)
            )
            biases = np.asarray(model.buffers[bias.buffer].data, "uint8").view("<f4")
            scale = (max(0.0, float(np.max(observed["max"]))) - min(0.0, float(np.min(observed["min"])))) / 255
            needed = np.abs(biases) * _KERNEL_LIMIT / (scale * _BIAS_LIMIT)
            dead = np.abs(by_channel).max(1) < needed
            by_channel[dead, 0] = needed[dead]  # a view of `weights`
            model.buffers[kernel.buffer].data = np.frombuffer(weights.tobytes(), "uint8")
    return flatbuffer.pack(model)


def _quantizer(content):
    from ai_edge_quantizer import qtyping, quantizer

    result = quantizer.Quantizer(content)
    for name in OPERATIONS:
        result.add_static_config(".*", qtyping.TFLOperationName[name], activation_num_bits=8, weight_num_bits=8)
    for layer in (*FLOAT_LAYERS, *_results_of_step(content)):
        result.update_quantization_recipe(
            regex=layer,
            operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
            algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE,
        )
    return result


def _results_of_step(content):
    """Return a regular expression for the name of each tensor that the step of a group computes, if there is one.

    The step stays in float32, since its error would accumulate over the images of a group.
    """
    model = flatbuffer.unpack(content)
    for signature in model.signatureDefs:
        if signature.signatureKey.decode() == signatures.STEP:
            subgraph = model.subgraphs[signature.subgraphIndex]
            results = (subgraph.tensors[index] for operator in subgraph.operators for index in operator.outputs)
            return [re.escape(tensor.name.decode()) for tensor in results]
    return []


def _signature_inputs(content, images):
    """Return the inputs of each signature when the float32 network runs on the images."""
    interpreter = Interpreter(model_content=content, num_threads=cores())
    names = interpreter.get_signature_list()
    images = [image[None].astype(np.float32) for image in images]
    if signatures.ENCODE not in names:
        return {signatures.SALIENCY: [{"image": image} for image in images]}
    runners = {name: interpreter.get_signature_runner(name) for name in names}
    inputs = {name: [] for name in names}

    def run(name, tensors):
        inputs[name].append(tensors)
        return runners[name](**tensors)

    state = {}
    if signatures.STEP in names:
        details = runners[signatures.STEP].get_input_details()
        outputs = runners[signatures.STEP].get_output_details()
        state = {name: details[name]["shape"] for name in outputs}
    input_names = {name: list(runner.get_input_details()) for name, runner in runners.items()}
    for start in range(0, len(images), GROUP_SIZE):
        standalone_runner.stream(run, images[start : start + GROUP_SIZE], input_names, state)
    return inputs
