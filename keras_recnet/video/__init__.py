"""Saliency maps, cutouts and overlays of videos. PyAV (the extra `video`) reads and writes the files."""

# Output kinds of a video: those of an image that have the image's size and need no Keras.
KINDS = ("mask", "binary", "cutout", "overlay", "heatmap")
# Inputs with these suffixes are treated as videos; the container and codecs are detected from the contents.
SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".qt", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
        *(".3gp", ".wmv", ".flv", ".ogv", ".y4m"),
    )
)
# Suffixes of the videos that can be written.
FORMATS = (".webm", ".mov", ".mp4")
TRANSPARENT_FORMATS = (".webm", ".mov")
