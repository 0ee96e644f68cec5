"""`keras-recnet`: the group of all commands. Slow imports are deferred until a command runs."""

import sys

import click

from keras_recnet import __version__
from keras_recnet.cli.bench import bench
from keras_recnet.cli.bulk import bulk
from keras_recnet.cli.coco_groups import coco_groups
from keras_recnet.cli.cosal import cosal
from keras_recnet.cli.evaluate import evaluate
from keras_recnet.cli.export import export
from keras_recnet.cli.predict import predict
from keras_recnet.cli.presets import presets
from keras_recnet.cli.running import exit_status
from keras_recnet.cli.study import study
from keras_recnet.cli.train import train
from keras_recnet.cli.web import web


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return exit_status(cli, "keras-recnet", arguments)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="keras-recnet")
def cli():
    """Predict saliency and co-saliency maps of images, and train, evaluate and export the networks."""


for command in (predict, cosal, bulk, evaluate, train, study, export, coco_groups, bench, presets, web):
    cli.add_command(command)


if __name__ == "__main__":
    sys.exit(main())
