"""`keras-recnet presets`: the shipped presets."""

import json

import click

from keras_recnet.cli.running import EXIT_STATUS


@click.command(epilog=EXIT_STATUS)
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON per preset")
def presets(as_json):
    """List the presets included in this package."""
    from keras_recnet.presets import available

    for preset in available():
        config = preset.config
        if as_json:
            click.echo(json.dumps({"name": preset.name, "folder": str(preset.folder), **config}))
            continue
        height, width = config["image_size"]
        files = ", ".join(f"{name} {entry['bytes'] / 1e6:.1f} MB" for name, entry in config["files"].items())
        click.echo(f"{preset.name}  {config['class']}  {height}×{width}  {files}\n    {preset.folder}")
