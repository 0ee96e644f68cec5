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
@click.option(
    "--preview", type=click.IntRange(min=1), metavar="N", help="Only draw the first N training batches, see below."
)
def train(config, overrides, resume, preview):
    """Train a network from a configuration.

    CONFIG is a YAML file or the name of a configuration that ships with this package. Checkpoints, logs and the trained
    preset are written to the folder that `output` names in the configuration.

    --preview writes a contact sheet for each batch to the subfolder preview: the augmented images with their masks
    tinted red. For groups, a row is a group. The frames are green for own images, blue for own composites, red for
    distractors, and orange for composites that are distractors.
    """
    if preview and resume:
        raise click.UsageError("--preview and --resume exclude each other.")
    # hides TensorFlow's messages about CPU and GPU libraries at start
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from keras_recnet.training import run

        if preview:
            run.preview(config, list(overrides), preview)
        else:
            run.train(config, list(overrides), resume)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("keras_recnet"):
            raise
        raise MissingExtraError(
            f'Training needs more packages: pip install "keras-recnet[tensorflow]". Missing: {error.name}'
        ) from error
