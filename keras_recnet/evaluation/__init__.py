"""Evaluation of saliency maps against masks: metrics, tables, curves and a report.

`keras_recnet.evaluation.run.evaluate` does the same as `keras-recnet evaluate`. Maps of any method can be scored from
files without Keras and TensorFlow; the extra `evaluation` is required.
"""
