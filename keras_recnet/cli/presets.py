"""`keras-recnet presets`: the presets that ship."""

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each preset.")
def presets(as_json):
    """List the presets that ship."""
    from keras_recnet import presets as folder_of_presets

    for preset in folder_of_presets.available():
        config = preset.config
        megabytes = {name: entry["bytes"] / 1e6 for name, entry in config["files"].items()}
        if as_json:
            click.echo(json.dumps({"name": preset.name, "folder": str(preset.folder), **config}))
            continue
        height, width = config["image_size"]
        files = ", ".join(f"{name} {size:.1f} MB" for name, size in megabytes.items())
        click.echo(f"{preset.name}  {config['class']}  {height}×{width}  {files}\n    {preset.folder}")
