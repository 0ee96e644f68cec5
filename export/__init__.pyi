from keras_recnet.export.exporting import FORMATS as FORMATS
from keras_recnet.export.exporting import add_to_preset as add_to_preset
from keras_recnet.export.exporting import convert as convert
from keras_recnet.export.exporting import export_model as export_model
from keras_recnet.export.litert.flatbuffer import read_metadata as read_metadata
from keras_recnet.export.litert.gpu_delegate import gpu_incompatible as gpu_incompatible
from keras_recnet.export.verification import ConversionError as ConversionError
