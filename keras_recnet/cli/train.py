"""`keras-recnet train`: train a network from a configuration."""

import os
import sys

import click

from keras_recnet.cli.running import EXIT_STATUS, FAILED, extra, say
from keras_recnet.errors import ProcessLostError


@click.command(epilog=EXIT_STATUS)
@click.argument("config")
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change a value, such as epochs=3. Repeatable."
)
@click.option("--resume", is_flag=True, help="Resume the run in the output folder from its newest checkpoint.")
@click.option(
    "--preview",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only draw contact sheets of the first N training batches.",
)
@click.option("--processes", type=click.IntRange(min=1), help="Processes that train together (data_parallel).")
@click.option("--process", type=click.IntRange(min=0), help="Index of this process, starting at 0.")
@click.option("--coordinator", metavar="HOST:PORT", help="Address of process 0.")
def train(config, overrides, resume, preview, **processes):
    """Train a network from a configuration.

    CONFIG is a YAML file or the name of a configuration that ships with this package. Checkpoints, logs and the trained
    preset are written to the folder that `output` names in the configuration.

    --preview writes a contact sheet for each batch to the subfolder preview: the augmented images with their masks
    tinted red. For groups, each row is a group; frames are green for images of the group, blue for composites with such
    an image, red for distractors, and orange for composites that are distractors.

    To train on several devices or hosts, set `distribution: data_parallel` and KERAS_BACKEND=jax, and start this
    command once per host. By default, --processes, --process and --coordinator are taken from the Slurm step, or from
    the variables JAX_NUM_PROCESSES, JAX_PROCESS_ID (in Kubernetes JOB_COMPLETION_INDEX) and JAX_COORDINATOR_ADDRESS.
    """
    if preview and resume:
        raise click.UsageError("--preview and --resume cannot be combined.")
    # hides TensorFlow's messages about CPU and GPU libraries at start
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with extra("Training", "tensorflow"):
            from keras_recnet.training import run

            if preview:
                run.preview(config, list(overrides), preview)
            else:
                run.train(config, list(overrides), resume, **processes)
    except ProcessLostError as error:
        say(f"Error: {error}")
        sys.stderr.flush()
        os._exit(FAILED)  # at a normal exit, JAX waits for the lost process and then aborts
