"""Cut out or crop the salient object of one image."""

import numpy as np

from keras_recnet.imaging import cutout as cutouts
from keras_recnet.imaging.cropping import MARGIN, crop_box
from keras_recnet.imaging.objects import fill_holes as without_holes
from keras_recnet.imaging.objects import largest_object, object_box
from keras_recnet.imaging.reading import DecodedImage, read
from keras_recnet.inference.predictor import default_predictor


def cutout(
    image, saliency_map: np.ndarray | None = None, *, largest: bool = False, fill_holes: bool = False
) -> np.ndarray:
    """Cut out the salient object of an image: RGBA with a transparent background.

    The alpha channel follows hair and edges at the full size of the image. If the image has an alpha channel itself,
    the two are multiplied.

    Args:
        image: a path, the bytes of a file, a `PIL.Image.Image` or an RGB array, as for `saliency`.
        saliency_map: float32 `(H, W)` in 0…1, such as a result of `Predictor` or `cosaliency`; None: the shipped preset
            computes it.
        largest: whether to keep only the largest object.
        fill_holes: whether to fill holes in the object, such as the opening of a cup's handle.

    Returns:
        uint8 `(H, W, 4)`, alpha not premultiplied; fully transparent pixels are black.

    Raises:
        ImageError: if the image cannot be read or is too large.

    Example:
        >>> import keras_recnet
        >>> from PIL import Image
        >>> Image.fromarray(keras_recnet.cutout("photo.jpg")).save("cutout.png")
    """
    decoded = read(image)
    return cutouts.cutout(decoded.rgb, _map(decoded, saliency_map, largest, fill_holes), decoded.alpha)


def crop(
    image,
    saliency_map: np.ndarray | None = None,
    *,
    margin: float = MARGIN,
    aspect: float | None = None,
    largest: bool = False,
) -> np.ndarray:
    """Crop an image to its salient object.

    The object consists of the pixels where the map is at least 0.5. An image without such a pixel is not cropped, or
    only to the aspect ratio, around its center.

    Args:
        image: a path, the bytes of a file, a `PIL.Image.Image` or an RGB array, as for `saliency`.
        saliency_map: as for `cutout`.
        margin: added on each side of the object's box, as a fraction of the box's longer side. The crop never extends
            beyond the image.
        aspect: width / height of the crop, such as 4 / 3. If no such crop of the image can contain the object, the
            largest one is used. None: that of the object's box and its margin.
        largest: as for `cutout`.

    Returns:
        uint8 `(h, w, 3)`; transparent parts of the image are white.

    Raises:
        ImageError: if the image cannot be read or is too large.

    Example:
        >>> import keras_recnet
        >>> from PIL import Image
        >>> Image.fromarray(keras_recnet.crop("photo.jpg", aspect=1)).save("square.jpg")
    """
    decoded = read(image)
    box = object_box(_map(decoded, saliency_map, largest))
    left, top, right, bottom = crop_box(box, decoded.size, margin=margin, aspect=aspect)
    return decoded.rgb[top:bottom, left:right].copy()


def _map(decoded: DecodedImage, saliency_map, largest, fill_holes=False):
    if saliency_map is None:
        saliency_map = default_predictor().predict(decoded)
    saliency_map = np.asarray(saliency_map, np.float32)
    if saliency_map.shape != decoded.size:
        raise ValueError(
            f"`saliency_map` must have the size of the upright image, {decoded.size}. "
            f"Received: shape={saliency_map.shape}"
        )
    if largest:
        saliency_map = largest_object(saliency_map)
    return without_holes(saliency_map) if fill_holes else saliency_map
