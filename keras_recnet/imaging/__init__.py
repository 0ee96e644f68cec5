"""Read and resize images, draw maps and cutouts, write PNGs. NumPy, Pillow and OpenCV only."""

# Output kinds of an image. For kinds drawn from the map alone, the image is read only at the network's input size.
KINDS = ("mask", "binary", "cutout", "crop", "overlay", "heatmap", "attention")
KINDS_OF_THE_MAP = frozenset(("mask", "binary", "heatmap"))
# Output kinds of a group. A sheet is one image of the whole group.
GROUP_KINDS = ("mask", "binary", "cutout", "crop", "overlay", "heatmap", "sheet")
