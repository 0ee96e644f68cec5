"""`keras-recnet predict`: saliency maps of images."""

import functools

import click

from keras_recnet.cli import options, video
from keras_recnet.cli.running import EXIT_STATUS, load_predictor, output_writer, pixel_limit, report
from keras_recnet.imaging import KINDS


@click.command(epilog=EXIT_STATUS)
@click.argument("inputs", metavar="INPUT…", nargs=-1, required=True)
@click.option(
    "-o",
    "--out",
    required=True,
    help="Output folder; for one image also a PNG, JPEG or WebP file, or - for stdout; for a video a file or -.",
)
@options.types(KINDS)
@options.drawing
@click.option(
    "--pixel",
    type=options.IntegerPair("X,Y", ",", 0),
    help="Pixel whose attention to draw.  [default: the most salient pixel]",
)
@click.option("--every", type=click.IntRange(min=1), help="Use every Nth frame of a video.  [default: 1]")
@click.option(
    "--frames",
    type=options.IntegerPair("WxH", "x", 1),
    metavar="WxH",
    help="Read raw RGB frames (rgb24) of this size from standard input and write raw frames.",
)
@click.option("--preset", help="Name or folder of a preset.  [default: recnet_lite0]")
@options.engine
@options.precision
@options.size
@click.option(
    "--fusion",
    type=click.Choice(options.FUSIONS),
    help="Fusion of the two branches; one other than the preset's needs Keras.  [default: the preset's]",
)
@click.option(
    "--flip", is_flag=True, help="Average the map with that of the mirrored image: softer maps, half as fast."
)
@options.jobs
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads of the LiteRT engine per image.  [default: 1, with --jobs 1 all cores]",
)
@options.max_pixels
@options.skip_existing
@options.shard
@options.as_json
def predict(
    inputs,
    out,
    kinds,
    drawing,
    pixel,
    every,
    frames,
    preset,
    max_pixels,
    skip_existing,
    shard,
    jobs,
    as_json,
    **network,
):
    """Predict the saliency maps of images, or of a video.

    INPUT is a file, a folder (searched recursively), a quoted pattern such as "photos/**/*.jpg", or - for standard
    input. The structure of folders is kept in the output folder. PNG files that an earlier run wrote are skipped,
    unless they are named individually.

    A mask, OUT/NAME.png, is an 8-bit PNG of the image's size. Other types are written to OUT/NAME.TYPE.png. If a
    folder contains both a.jpg and a.png, the suffix is kept: OUT/a.jpg.png.

    A video is a single INPUT, and OUT is a .webm, .mov or .mp4 file, or - for raw frames. A cutout is transparent in
    .webm and .mov. Ctrl-C completes the file after the current frame; a second Ctrl-C discards it.
    """
    kinds = options.selected_kinds(kinds, {**drawing, "pixel": pixel})
    if as_json and out == "-":
        raise click.UsageError("--json and -o - cannot both write to standard output.")

    def load(**more):
        from keras_recnet.inference.predictor import Predictor

        limit = pixel_limit(max_pixels)
        writer = output_writer(limit, skip_existing=skip_existing, **drawing, **more)
        return writer, load_predictor(Predictor, preset, max_pixels=limit, **network)

    if frames is not None or video.is_video(inputs, out):
        kind = video.check(
            inputs, out, kinds, raw_size=frames and frames[::-1], opaque=drawing["background"] is not None
        )
        if shard is not None:
            raise click.UsageError("--shard is for images.")
        return video.convert(
            inputs[0],
            out,
            kind,
            load,
            raw_size=frames and frames[::-1],
            every=every or 1,
            workers=jobs,
            as_json=as_json,
            skip_existing=skip_existing,
        )
    if every is not None:
        raise click.UsageError("--every needs a video.")
    options.check_out(out)
    if "cutout" in kinds and drawing["background"] is None and out.lower().endswith((".jpg", ".jpeg")):
        raise click.UsageError(f"-o {out}: JPEG has no transparency. Choose .png or .webp, or add --background.")
    if "attention" in kinds:
        if network["engine"] == "litert":
            raise click.UsageError("--type attention needs --engine keras.")
        if network["precision"] == "int8":
            raise click.UsageError("--type attention runs the Keras engine, which has no int8: drop --precision int8.")
        network["engine"] = "keras"

    from keras_recnet.inference.inputs import find_images, plan_jobs

    images, problems = find_images(inputs, outside=out)
    try:
        tasks = plan_jobs(images, out, kinds, skip_existing=skip_existing)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    tasks = options.selected_shard(tasks, shard, "image")
    if not tasks:
        return report(None, problems, 0, out=out, as_json=as_json)

    from keras_recnet.inference.outputs import write_maps

    writer, predictor = load(pixel=pixel and pixel[::-1])
    run = functools.partial(write_maps, predictor, tasks, writer, workers=jobs)
    return report(run, problems, len(tasks), out=out, as_json=as_json, network=str(predictor), written=writer.written)
