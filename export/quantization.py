"""int8 quantization of a float32 LiteRT file with ai-edge-quantizer.

Convolutions and the operations between them compute in int8, with one scale per kernel channel. Preprocessing,
attention (BATCH_MATMUL and SOFTMAX), the state of a group, the correction of the edge version of `RCAUNet`, the last
logits and the fusion stay in float32: LiteRT computes an int8 × int8 BATCH_MATMUL several times more slowly than a
float32 one, and the error of the logits goes directly into the map.
"""

import os
import re
import warnings
from collections.abc import Sequence

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
GROUP_SIZE = 8  # images per group in the calibration of a co-saliency network

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
# So do operations with a result whose name, in the file or as an output of a signature, contains one of these names of
# layers. The first two convolutions of EfficientNet-Lite have channels with very different ranges, and take little
# time.
FLOAT_LAYERS = (
    "preprocessing",
    "stem_conv",
    "block1_depthwise",
    "logits",
    "branches",
    "saliency",
)
# The correction of RecNet's map by the group computes in float32 with kernels that are stored in float16. In int8, its
# small differences between similarity maps would be rounded, and its gate decides over whole objects. It takes little
# time.
FLOAT16_LAYERS = ("correction",)

_BIAS_LIMIT = 2**30  # half the range of int32, so that rounding cannot exceed it
_KERNEL_LIMIT = 127


def read_images(
    folder: str | os.PathLike, size: tuple[int, int], *, grouped: bool = False
) -> tuple[list[np.ndarray], list[str]]:
    """Read images for the calibration, `CALIBRATION_IMAGES` chosen at random from a folder and its subfolders.

    Images that cannot be read are skipped, and others take their place.

    Args:
        folder: folder of images.
        size: `(height, width)` to resize the images to.
        grouped: whether to return groups of at most `GROUP_SIZE` images of the same subfolder, from as many subfolders
            as possible. Images that are not in a subfolder form random groups.

    Returns:
        The groups, uint8 `(images, height, width, 3)`, RGB, a single one if not `grouped`; and the error messages of
        the images that were skipped.

    Raises:
        ConfigError: if no image can be read.
    """
    paths = sorted(path for _, path in named_files(folder, SUFFIXES))
    paths = [paths[index] for index in np.random.default_rng(SEED).permutation(len(paths))]
    groups, errors, missing = [], [], CALIBRATION_IMAGES
    for group in _groups(paths) if grouped else [paths]:
        images = []
        for path in group:
            if len(images) == missing:
                break
            try:
                images.append(read(path, fit=size).rgb)
            except ImageError as error:
                errors.append(str(error))
        if images:
            groups.append(np.stack(images))
            missing -= len(images)
    if not groups:
        details = f" {len(errors)} files cannot be read, such as: {errors[0]}" if errors else ""
        raise ConfigError(f"{folder}: no images for the calibration.{details}")
    return groups, errors


def _groups(paths):
    """Return groups of paths in the same folder: the first group of each folder, then the second ones, and so on."""
    by_folder = {}
    for path in paths:
        by_folder.setdefault(path.parent, []).append(path)
    groups = [
        (start, members[start : start + GROUP_SIZE])
        for members in by_folder.values()
        for start in range(0, len(members), GROUP_SIZE)
    ]
    return [group for _, group in sorted(groups, key=lambda group: group[0])]


def quantize(content: bytes, groups: Sequence[np.ndarray]) -> bytes:
    """Quantize a float32 LiteRT file.

    Args:
        content: contents of the file, from TensorFlow's converter.
        groups: groups of images, uint8 `(images, height, width, 3)`, RGB; for a `RecNet`, all images may be one group.
            The range of each int8 tensor is a moving average of its smallest and largest value over these images.

    Returns:
        The contents of the int8 file. Its inputs and outputs are still float32.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors", category=UserWarning)
        warnings.filterwarnings("error", category=RuntimeWarning)  # NumPy's warnings about overflow and NaN
        inputs = _signature_inputs(content, groups)
        ranges = _quantizer(content).calibrate(inputs, num_threads=cores())
        result = _quantizer(with_representable_biases(content, ranges)).quantize(ranges, enable_progress_report=False)
    return _with_float_outputs(bytes(result.quantized_model), content)


def with_representable_biases(content: bytes, ranges: dict) -> bytes:
    """Increase the kernels of channels whose bias would overflow int32, by an imperceptible amount.

    The scale of an int8 convolution's int32 bias is the product of the scales of its input and its kernel. A channel
    that is dead after training has an almost zero kernel, so its scale is tiny and its bias overflows: instead of the
    constant bias, the channel computes noise. Therefore one weight of such a kernel is increased to the smallest value
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


def _with_float_outputs(content, source):
    """Return the contents of an int8 file whose signatures have the outputs of its subgraphs.

    For an int8 result, the quantizer adds a dequantized copy and makes it the output of the subgraph. But it forgets
    the output of the signature if all dequantized outputs are also used inside the network. Such an output is int8, or
    null where XNNPACK computes it.

    Args:
        content: contents of the int8 file.
        source: contents of the float32 file.
    """
    model, original = flatbuffer.unpack(content), flatbuffer.unpack(source)
    for signature, before in zip(model.signatureDefs, original.signatureDefs, strict=True):
        outputs = model.subgraphs[signature.subgraphIndex].outputs
        places = original.subgraphs[before.subgraphIndex].outputs.tolist()
        for entry, old in zip(signature.outputs, before.outputs, strict=True):
            entry.tensorIndex = outputs[places.index(old.tensorIndex)]
    return flatbuffer.pack(model)


def _quantizer(content):
    from ai_edge_quantizer import qtyping, quantizer

    result = quantizer.Quantizer(content)
    for name in OPERATIONS:
        result.add_static_config(".*", qtyping.TFLOperationName[name], activation_num_bits=8, weight_num_bits=8)
    for layer in (*FLOAT_LAYERS, *FLOAT16_LAYERS, *_float_results(content)):
        result.update_quantization_recipe(
            regex=layer,
            operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
            algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE,
        )
    for layer in FLOAT16_LAYERS:
        for name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            result.add_weight_only_config(
                layer,
                qtyping.TFLOperationName[name],
                num_bits=16,
                algorithm_key=quantizer.AlgorithmName.FLOAT_CASTING,
            )
    return result


def _float_results(content):
    """Return a regular expression for the name of each tensor that is computed in float32, besides `FLOAT_LAYERS`.

    - The step of a group, since its error would accumulate over the images of the group.
    - Additions of a constant. They are part of a normalization: the largest variance of a group of channels can be
      a thousand times as large as the others, which would be rounded to 0.
    - Outputs of a signature with the name of a layer in `FLOAT_LAYERS`. Outputs do not have the names of their layers.
    """
    model = flatbuffer.unpack(content)
    for signature in model.signatureDefs:
        subgraph = model.subgraphs[signature.subgraphIndex]
        is_step = signature.signatureKey.decode() == signatures.STEP
        results = [
            index
            for operator in subgraph.operators
            for index in operator.outputs
            if is_step or _adds_constant(model, subgraph, operator)
        ]
        results += [
            entry.tensorIndex
            for entry in signature.outputs
            if any(layer in entry.name.decode() for layer in FLOAT_LAYERS)
        ]
        for index in results:
            name = subgraph.tensors[index].name.decode()
            yield f"(^|;){re.escape(name)};"  # the quantizer matches the names of all results, each followed by `;`


def _adds_constant(model, subgraph, operator):
    if flatbuffer.operation_code(model, operator) != schema.BuiltinOperator.ADD:
        return False
    return any(model.buffers[subgraph.tensors[index].buffer].data is not None for index in operator.inputs)


def _signature_inputs(content, groups):
    """Return the inputs of each signature when the float32 network runs on groups of images."""
    interpreter = Interpreter(model_content=content, num_threads=cores())
    names = interpreter.get_signature_list()
    groups = [[image[None].astype(np.float32) for image in group] for group in groups]
    if signatures.ENCODE not in names:
        return {signatures.SALIENCY: [{"image": image} for group in groups for image in group]}
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
    for group in groups:
        standalone_runner.stream(run, group, input_names, state)
    return inputs
