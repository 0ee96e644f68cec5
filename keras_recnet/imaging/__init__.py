"""Pictures in and out: finding, reading, resizing, drawing maps, cutouts. NumPy, Pillow and OpenCV only."""

# What can be made of a picture; those of the map alone need no more of the picture than the network sees.
KINDS = ("mask", "binary", "cutout", "overlay", "heatmap", "attention")
KINDS_OF_THE_MAP = frozenset(("mask", "binary", "heatmap"))
# of the pictures of a group; a sheet is one picture of the whole group
GROUP_KINDS = ("mask", "binary", "cutout", "overlay", "heatmap", "sheet")
