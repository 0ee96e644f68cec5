"""`keras-recnet train`: train a network from a configuration."""

import os

import click

from keras_recnet.cli.running import EXIT_STATUS
from keras_recnet.errors import MissingExtraError


@click.command(epilog=EXIT_STATUS)
@click.argument("config")
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change a value, such as epochs=3. Repeatable."
)
@click.option("--resume", is_flag=True, help="Resume the run in the output folder from its newest checkpoint.")
def train(config, overrides, resume):
    """Train a network from a configuration.

    CONFIG is a YAML file or the name of a configuration that ships with this package. Checkpoints, logs and the trained
    preset are written to the folder that `output` names in the configuration.
    """
    # hides TensorFlow's messages about CPU and GPU libraries at start
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from keras_recnet.training import run

        run.train(config, list(overrides), resume)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("keras_recnet"):
            raise
        raise MissingExtraError(
            f'Training needs more packages: pip install "keras-recnet[tensorflow]". Missing: {error.name}'
        ) from error
