"""Maps against masks: the field's numbers, tables, curves and a report.

`keras_recnet.evaluation.run.evaluate` does what `keras-recnet evaluate` does. It works on files, whoever made the maps,
and needs neither Keras nor TensorFlow, but the extra `evaluation`.
"""
