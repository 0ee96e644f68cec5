"""`keras-recnet train`: a training as a configuration says."""

import click

from keras_recnet.errors import MissingExtraError


@click.command()
@click.argument("config")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change an entry, such as epochs=3.")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint of this configuration's folder.")
def train(config, overrides, resume):
    """Train as a configuration says.

    CONFIG is a YAML file or the name of a configuration that ships.
    """
    try:
        from keras_recnet.training import run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("keras_recnet"):
            raise
        raise MissingExtraError(
            f'Training needs more packages: pip install "keras-recnet[tensorflow]". Missing: {error.name}'
        ) from error
    run.train(config, list(overrides), resume)
