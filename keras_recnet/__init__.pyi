from keras_recnet import backbones as backbones
from keras_recnet import evaluation as evaluation
from keras_recnet import export as export
from keras_recnet import layers as layers
from keras_recnet import losses as losses
from keras_recnet import metrics as metrics
from keras_recnet import models as models
from keras_recnet import optimizers as optimizers
from keras_recnet import pipelines as pipelines
from keras_recnet import presets as presets
from keras_recnet import training as training
from keras_recnet.inference.group_predictor import GroupPredictor as GroupPredictor
from keras_recnet.inference.group_predictor import cosaliency as cosaliency
from keras_recnet.inference.objects import crop as crop
from keras_recnet.inference.objects import cutout as cutout
from keras_recnet.inference.predictor import Predictor as Predictor
from keras_recnet.inference.predictor import saliency as saliency
from keras_recnet.layers import ConvGRUCell as ConvGRUCell
from keras_recnet.layers import FeatureIntegration as FeatureIntegration
from keras_recnet.layers import Fusion as Fusion
from keras_recnet.layers import GroupRNN as GroupRNN
from keras_recnet.layers import RCAUCell as RCAUCell
from keras_recnet.layers import ReciprocalAttention as ReciprocalAttention
from keras_recnet.models import RCAUNet as RCAUNet
from keras_recnet.models import RecNet as RecNet
from keras_recnet.models import load_model as load_model

__version__: str
