"""`keras-recnet bulk`: saliency maps of millions of images on a Ray cluster."""

import functools

import click

from keras_recnet.cli import options
from keras_recnet.cli.running import EXIT_STATUS, load_predictor, pixel_limit, report


@click.command(epilog=EXIT_STATUS)
@click.argument("inputs", metavar="INPUT…", nargs=-1, required=True)
@click.option("-o", "--out", required=True, help="Output folder: a path, or a URI such as s3://bucket/maps.")
@click.option(
    "--format",
    type=click.Choice(("files", "parquet", "webdataset")),
    default="files",
    show_default=True,
    help="One PNG file per image (files), or many maps per file (parquet, webdataset).",
)
@click.option("--grouped", is_flag=True, help="Co-saliency: each folder that contains images is a group.")
@click.option("--address", help="Address of a Ray cluster, or auto.  [default: start Ray on this machine]")
@click.option(
    "--actors",
    type=click.IntRange(min=1),
    help="Images or groups to process in parallel.  [default: one per GPU, or all cores but one per machine]",
)
@click.option("--preset", help="Name or folder of a preset.  [default: recnet_lite0; with --grouped rcau_lite0]")
@options.engine
@options.size
@click.option(
    "--flip", is_flag=True, help="Average the map with that of the mirrored image: slightly better, half as fast."
)
@options.max_pixels
def bulk(inputs, out, format, grouped, address, actors, preset, engine, size, flip, max_pixels):
    """Predict the maps of millions of images with Ray, on this machine or on a cluster.

    INPUT is a file, a folder, a quoted pattern, or the URI of a remote file or folder (s3://…, gs://…, hdfs://…).
    With --format files, masks are written to OUT/NAME.png. With the other formats, they are written to
    OUT/part-NUMBER.parquet or .tar, together with the bounding box and the mean of each map; an image that cannot be
    read gets an error message instead.

    To resume an interrupted job, run the same command again: blocks of images that are finished are skipped. Actors
    that crash are restarted. On a cluster, local paths must exist on every machine.
    """
    if grouped and flip:
        raise click.UsageError("--flip cannot be combined with --grouped.")

    from keras_recnet.bulk import cluster
    from keras_recnet.bulk import inputs as bulk_inputs
    from keras_recnet.bulk.job import Job
    from keras_recnet.inference.group_predictor import DEFAULT_GROUP_PRESET, GroupPredictor
    from keras_recnet.inference.predictor import DEFAULT_PRESET, Predictor

    cluster.import_ray()
    preset = preset or (DEFAULT_GROUP_PRESET if grouped else DEFAULT_PRESET)
    network = {
        "engine": engine,
        "size": size,
        "max_pixels": pixel_limit(max_pixels),
        **({"flip": True} if flip else {}),
    }
    description = preset
    if engine != "keras":  # report errors before Ray starts; the Keras engine might occupy this machine's GPU
        description = str(load_predictor(GroupPredictor if grouped else Predictor, preset, threads=1, **network))
    items, problems = bulk_inputs.find_items(inputs, out, grouped=grouped, files=format == "files")
    if not items:
        return report(None, problems, 0, out=out, as_json=False)
    job = Job(items, out, format, grouped, {"preset": preset, **network}, actors)
    finished, written = job.finished(), []
    with cluster.connected(address):
        return report(
            functools.partial(job.run, finished, written=written),
            problems,
            sum(len(item.paths) for item in items),
            out=out,
            as_json=False,
            network=f"Ray, {description}",
            groups=len(items) if grouped else None,
            written=written,
            resume="Run the same command to resume.",
        )
