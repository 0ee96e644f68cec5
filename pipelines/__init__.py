"""tf.data pipelines: files on disk to batches."""
