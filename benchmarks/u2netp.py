"""Maps of U²-Netp, made as rembg makes them: a peer to measure beside.

    python -m pip install onnxruntime
    python benchmarks/u2netp.py u2netp.onnx ECSSD-100/images -o maps/u2netp

The picture is resized to 320×320 (Lanczos; `--resize` tries another filter), divided by its largest value, and
normalised with ImageNet's mean and deviation; the network's first output is stretched to 0…1 and resized to the
picture's own size (Lanczos), in 8 bits. The network: Qin et al., U²-Net, 2020 (Apache-2.0); the file is the one that
rembg downloads.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from keras_recnet.imaging.reading import read
from keras_recnet.imaging.writing import png, write
from keras_recnet.inference.inputs import find_images, plan_jobs

SIDE = 320
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def saliency(session: onnxruntime.InferenceSession, rgb: np.ndarray, resize: str = "lanczos") -> np.ndarray:
    """The map, uint8 `(H, W)`, of a picture, uint8 `(H, W, 3)`; `resize` names Pillow's filter for the input."""
    image = Image.fromarray(rgb)
    small = np.asarray(image.resize((SIDE, SIDE), Image.Resampling[resize.upper()]), np.float64)
    small = (small / max(small.max(), 1e-6) - MEAN) / DEVIATION
    batch = small.transpose(2, 0, 1)[None].astype(np.float32)
    output = session.run(None, {session.get_inputs()[0].name: batch})[0][0, 0]
    output = (output - output.min()) / max(float(np.ptp(output)), 1e-12)
    return np.asarray(Image.fromarray((output * 255).astype(np.uint8)).resize(image.size, Image.Resampling.LANCZOS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="u2netp.onnx")
    parser.add_argument("images", type=Path, help="folder of photographs")
    parser.add_argument("-o", "--out", required=True, help="folder to write to")
    parser.add_argument("--resize", choices=("lanczos", "bicubic", "bilinear"), default="lanczos", help="of the input")
    parser.add_argument("--threads", type=int, default=0, help="of the network (default: cores)")
    arguments = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    session = onnxruntime.InferenceSession(arguments.network, options, providers=["CPUExecutionProvider"])
    found, problems = find_images([str(arguments.images)], outside=arguments.out)
    if problems:
        parser.error(problems[0][1])
    for task in plan_jobs(found, arguments.out, ["mask"]):
        write(png(saliency(session, read(task.source).rgb, arguments.resize)), task.outputs["mask"])
    print(f"{len(found)} maps -> {arguments.out}")


if __name__ == "__main__":
    main()
