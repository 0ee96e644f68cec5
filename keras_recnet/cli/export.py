"""`keras-recnet export`: a preset as a SavedModel or a LiteRT file."""

import json

import click

from keras_recnet.cli import options
from keras_recnet.cli.running import say


@click.command("export")
@click.argument("preset", metavar="PRESET|FOLDER")
@click.option("--format", required=True, type=click.Choice(("savedmodel", "litert")), help="What to make.")
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False), help="Folder to write to.")
@click.option(
    "--precision",
    type=click.Choice(("float32", "float16")),
    help="float16: a SavedModel computes in mixed precision, for GPUs; a LiteRT file stores its weights so.  "
    "[default: float32, of litert float16]",
)
@options.size
@click.option("--signatures", metavar="NAME[,NAME…]", help="Of these alone.  [default: all]")
@click.option(
    "--max-pixels", type=click.IntRange(min=1), help="Of a picture in a request to a SavedModel.  [default: 50 million]"
)
@click.option(
    "--input-dtype", type=click.Choice(("float32", "uint8")), help="Of a LiteRT file's images.  [default: float32]"
)
@click.option("--json", "as_json", is_flag=True, help="What export.json says, on stdout.")
def export(preset, format, out, signatures, as_json, **options):
    """Export a preset to TF Serving (a SavedModel) or to phones (LiteRT), with a proof.

    PRESET is one that ships, or a preset's folder. A SavedModel goes into OUT/1, or the next number; a LiteRT file is
    OUT/model.tflite. Every export is loaded in a process that cannot import this library, run on pictures that are
    drawn for it, and compared with Keras; what was found stands in export.json beside it. An export that does not
    compute the same is not kept.

    Exit status: 0 all good; 1 it could not be made or proved; 2 nothing was started; 130 interrupted.
    """
    from keras_recnet.export import export_model

    names = signatures and [name.strip() for name in signatures.split(",")]
    told = export_model(preset, out, format=format, signatures=names, say=say, **options)
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
    _show(told)


def _show(told):
    say(f"{'signature':<24}{'output':<16}{'mean difference':>16}{'largest':>10}{'allowed':>10}{'ms':>10}")
    for row in told["proof"]["differences"]:
        say(
            f"{row['signature']:<24}{row['output']:<16}{row['mean']:>16.1e}{row['max']:>10.1e}{row['tolerance']:>10.1e}"
            f"{row['milliseconds']:>10.1f}"
        )
    size = sum(file["bytes"] for file in told["files"].values())
    say(f"{told['format']}, {told['precision']}, {size / 1e6:.1f} MB, loads in {told['proof']['loading']:.1f} s")
    say(f"-> {told['folder']}")
