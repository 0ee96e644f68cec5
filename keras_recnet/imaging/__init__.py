"""Pictures in and out: reading, resizing, drawing maps, cutouts. NumPy, Pillow and OpenCV only."""
