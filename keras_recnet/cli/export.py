"""`keras-recnet export`: a preset as a SavedModel, a LiteRT, ONNX or OpenVINO file, or a page for browsers."""

import json

import click

from keras_recnet.cli import options
from keras_recnet.cli.running import EXIT_STATUS, say


@click.command("export", epilog=EXIT_STATUS)
@click.argument("preset")
@click.option(
    "--format",
    required=True,
    type=click.Choice(("savedmodel", "litert", "onnx", "openvino", "web")),
    help="Format of the export.",
)
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False), help="Output folder.")
@click.option(
    "--precision",
    type=click.Choice(("float32", "float16", "int8")),
    help="float16: mixed precision of a SavedModel, for GPUs, or float16 weights of a LiteRT file. int8: litert and "
    "web, for CPUs.  [default: float16 for litert; for web, int8 if the preset has it; float32 for others]",
)
@options.size
@click.option("--signatures", metavar="NAME[,NAME…]", help="Signatures to export.  [default: all]")
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    help="Largest image that a SavedModel accepts in a request, in pixels.  [default: 50 million]",
)
@click.option(
    "--input-dtype",
    type=click.Choice(("float32", "uint8")),
    help="Type of the images that a LiteRT file accepts.  [default: float32]",
)
@click.option(
    "--calibration",
    type=click.Path(),
    metavar="FOLDER",
    help="Photos like those that an int8 file will see; 100 of them are used. Of a co-saliency preset, each subfolder "
    "is a group.  [default: the preset's own int8 file]",
)
@click.option(
    "--group-preset",
    type=click.Path(),
    metavar="PRESET",
    help="web: the co-saliency preset for groups of photos, if PRESET is for single ones.  [default: rcau_lite0]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the contents of export.json to stdout.")
def export(preset, format, out, signatures, as_json, **options):
    """Export a preset for TF Serving (a SavedModel), mobile devices (LiteRT), browsers (web), or to ONNX or OpenVINO.

    PRESET is the name or folder of a preset. A SavedModel is written to OUT/1 or the next free number, a LiteRT file to
    OUT/model.tflite, ONNX and OpenVINO files to OUT/model.onnx and OUT/model.xml (of a co-saliency preset: one file
    per signature). A static page is written to OUT/index.html; `keras-recnet web OUT` opens it.

    Every export is verified: it is loaded in a process that cannot import this library, and its outputs are compared
    with those of Keras. The result is in export.json. An export that fails is deleted.
    """
    from keras_recnet.export import export_model

    names = signatures and [name.strip() for name in signatures.split(",")]
    report = export_model(preset, out, format=format, signatures=names, log=say, **options)
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False))
    _print(report)


def _print(report):
    for network in report.get("networks", [report]):
        say(f"{'signature':<24}{'output':<16}{'mean difference':>16}{'largest':>10}{'allowed':>10}{'ms':>10}")
        for row in network["verification"]["differences"]:
            say(
                f"{row['signature']:<24}{row['output']:<16}{row['mean']:>16.1e}{row['max']:>10.1e}"
                f"{row['tolerance']:>10.1e}{row['milliseconds']:>10.1f}"
            )
        name = f"{network['name']}, " if "name" in network else ""
        say(f"{name}{network['precision']}, loads in {network['verification']['loading']:.1f} s")
    size = sum(file["bytes"] for file in report["files"].values()) / 1e6
    say(f"{report['format']}, {size:.1f} MB -> {report['folder']}")
