"""`keras-recnet coco-groups`: training groups from COCO."""

import click

from keras_recnet.cli.running import EXIT_STATUS, FAILED, INTERRUPTED, say
from keras_recnet.errors import MissingExtraError


@click.command("coco-groups", epilog=EXIT_STATUS)
@click.argument("annotations", type=click.Path(exists=True, dir_okay=False))
@click.argument("images", type=click.Path(exists=True, file_okay=False))
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False), help="Output folder.")
@click.option("--categories", metavar="NAME[,NAME…]", help="Categories to use.  [default: all]")
@click.option(
    "--group-size", type=click.IntRange(min=2), default=5, show_default=True, help="Number of images per group."
)
@click.option(
    "--images",
    "most_images",
    type=click.IntRange(min=1),
    default=9213,
    show_default=True,
    help="Maximum number of images.",
)
@click.option(
    "--groups", "most_groups", type=click.IntRange(min=1), help="Maximum number of groups.  [default: one per mask]"
)
@click.option(
    "--area",
    type=click.FloatRange(0, 1),
    nargs=2,
    default=(0.05, 0.7),
    metavar="MIN MAX",
    show_default=True,
    help="Smallest and largest fraction of an image that a category may cover.",
)
@click.option(
    "--category-map",
    type=click.Path(exists=True, dir_okay=False),
    help="CSV file name,category that maps COCO's names to categories, such as sheep,bovid.  [default: COCO's names]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of random choices.")
@click.option(
    "--jobs", "workers", type=click.IntRange(min=1), default=2, show_default=True, help="Number of processes."
)
def coco_groups(annotations, images, out, categories, **options):
    """Create training groups for co-saliency from COCO.

    ANNOTATIONS is a JSON file such as instances_train2017.json, IMAGES the folder of its images. A group consists of an
    image and the images of the same category that are most similar to it. groups.csv, images and masks are written to
    OUT. To resume after an interruption, run the same command again.
    """
    if options["area"][0] > options["area"][1]:
        raise click.UsageError(f"--area: the first number must not exceed the second. Received: {options['area']}")

    from keras_recnet import pipelines

    options["categories"] = categories and [name.strip() for name in categories.split(",")]
    try:
        with pipelines.stage_bars() as progress:
            result = pipelines.make_coco_groups(annotations, images, out, progress=progress, **options)
    except ModuleNotFoundError as error:
        if error.name != "pycocotools":
            raise
        raise MissingExtraError(str(error)) from error
    except KeyboardInterrupt:
        say("Interrupted. Run the same command to resume.")
        return INTERRUPTED
    say(
        *(f"Note: {note}" for note in result.notes),
        f"{sum(result.groups.values())} groups of {len(result.groups)} categories, {result.images} images "
        f"-> {result.list}",
    )
    if result.problems:
        say(f"{len(result.problems)} left out:", *(f"  {problem}" for problem in result.problems))
    return FAILED if result.problems else 0
