"""`keras-recnet coco-groups`: training groups from COCO."""

import click

from keras_recnet.cli.running import FAILED, INTERRUPTED, say
from keras_recnet.errors import MissingExtraError


@click.command("coco-groups")
@click.argument("annotations", type=click.Path(exists=True, dir_okay=False))
@click.argument("images", type=click.Path(exists=True, file_okay=False))
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False), help="Folder to write to.")
@click.option("--categories", metavar="NAME[,NAME…]", help="Of these alone.  [default: all]")
@click.option("--group-size", type=click.IntRange(min=2), default=5, show_default=True, help="Images a group.")
@click.option("--images", "most_images", type=click.IntRange(min=1), default=9213, show_default=True, help="At most.")
@click.option("--groups", "most_groups", type=click.IntRange(min=1), help="At most.  [default: one for each mask]")
@click.option(
    "--area",
    type=click.FloatRange(0, 1),
    nargs=2,
    default=(0.05, 0.7),
    metavar="LEAST LARGEST",
    show_default=True,
    help="Part of an image that a category may fill.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of what is drawn.")
@click.option("--jobs", "workers", type=click.IntRange(min=1), default=2, show_default=True, help="Processes.")
def coco_groups(annotations, images, out, categories, **options):
    """Make training groups for co-saliency from COCO's images.

    ANNOTATIONS is a JSON file such as instances_train2017.json, IMAGES the folder of its images. A group is an image
    and those of the same category that look most like it as a whole. OUT gets groups.csv, images and masks. A run that
    was stopped goes on where it was.

    Exit status: 0 all good; 1 some images or annotations could not be used (the rest is done, they are listed), or
    nothing could be made; 2 nothing was started; 130 interrupted.
    """
    if options["area"][0] > options["area"][1]:
        raise click.UsageError(f"--area must be the smaller part first. Received: {options['area']}")

    from keras_recnet import pipelines

    options["categories"] = categories and [name.strip() for name in categories.split(",")]
    try:
        with pipelines.stage_bars() as progress:
            made = pipelines.make_coco_groups(annotations, images, out, progress=progress, **options)
    except ModuleNotFoundError as error:
        if error.name != "pycocotools":
            raise
        raise MissingExtraError(str(error)) from error
    except KeyboardInterrupt:
        say("Interrupted. Start the same command again: it goes on where it was.")
        return INTERRUPTED
    say(
        *(f"Note: {note}" for note in made.notes),
        f"{sum(made.groups.values())} groups of {len(made.groups)} categories, {made.images} images -> {made.list}",
    )
    if made.problems:
        say(f"{len(made.problems)} left out:", *(f"  {problem}" for problem in made.problems))
    return FAILED if made.problems else 0
