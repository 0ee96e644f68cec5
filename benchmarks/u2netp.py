"""Predict maps with U²-Netp as rembg does, to compare them with ours.

    python -m pip install onnxruntime
    python benchmarks/u2netp.py u2netp.onnx ECSSD-100/images -o maps/u2netp

Prints the number of maps written. The image is resized to 320×320 (Lanczos; `--resize` selects another filter), divided
by its maximum, and normalized with ImageNet's mean and standard deviation. The first output of the network is stretched
to 0…1 and resized to the size of the image (Lanczos), in 8 bits. Network: Qin et al., U²-Net, 2020 (Apache-2.0);
rembg downloads the same file.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from keras_recnet.imaging.reading import read
from keras_recnet.imaging.writing import encode, write
from keras_recnet.inference.inputs import find_images, plan_jobs

SIDE = 320
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def saliency(session: onnxruntime.InferenceSession, rgb: np.ndarray, resize: str = "lanczos") -> np.ndarray:
    """Return the map, uint8 `(H, W)`, of an image, uint8 `(H, W, 3)`; `resize` is Pillow's filter for the input."""
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
    parser.add_argument("images", type=Path, help="folder of images")
    parser.add_argument("-o", "--out", required=True, help="output folder")
    parser.add_argument(
        "--resize", choices=("lanczos", "bicubic", "bilinear"), default="lanczos", help="filter for the input"
    )
    parser.add_argument("--threads", type=int, default=0, help="threads of the network (default: number of cores)")
    arguments = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    session = onnxruntime.InferenceSession(arguments.network, options, providers=["CPUExecutionProvider"])
    images, problems = find_images([str(arguments.images)], outside=arguments.out)
    if problems:
        parser.error(problems[0][1])
    for job in plan_jobs(images, arguments.out, ["mask"]):
        write(encode(saliency(session, read(job.source).rgb, arguments.resize)), job.outputs["mask"])
    print(f"{len(images)} maps -> {arguments.out}")


if __name__ == "__main__":
    main()
