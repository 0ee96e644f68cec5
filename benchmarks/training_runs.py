"""The log of training runs: a line for each run folder, added to docs/training_runs.csv or put in its old line's place.

    python benchmarks/training_runs.py runs/short/*
    python benchmarks/training_runs.py runs/recnet_lite0_160 runs/recnet_lite0 --base runs/recnet_lite0_160

`changes` is what a run's configuration says otherwise than that of the `--base` run (default: the first folder), but
for where files lie. The numbers are those of the epoch with the least error on the validation images, at the size that
the run was trained at.
"""

import argparse
import csv
from pathlib import Path

import yaml

from keras_recnet.training.config.loading import differences, names_backbone_weights, with_current_defaults

LOG = Path(__file__).parents[1] / "docs" / "training_runs.csv"
COLUMNS = ["run", "base", "changes", "seed", "epochs", "image_size", "minutes", "best_epoch", "val_mae", "val_f"]
PLACES = ("data.root", "data.images", "data.masks", "data.list", "data.features", "data.validation")
APART = (*PLACES, "seed", "epochs", "model.image_size", "data.cache_size")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders that `keras-recnet train` wrote")
    parser.add_argument("--base", type=Path, help="run that `changes` are told from; default: the first")
    parser.add_argument("-o", "--out", type=Path, default=LOG, help="default: docs/training_runs.csv")
    arguments = parser.parse_args()
    base = arguments.base or arguments.runs[0]
    rows = {}
    if arguments.out.is_file():
        with arguments.out.open(newline="") as file:
            rows = {row["run"]: row for row in csv.DictReader(file)}
    rows |= {run.name: row_of(run, base) for run in arguments.runs}
    with arguments.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())
    print(f"{len(arguments.runs)} runs -> {arguments.out}")


def row_of(run: Path, base: Path) -> dict:
    """A run's line."""
    config = configuration(run)
    with (run / "log.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))
    best = min(epochs, key=lambda row: float(row["val_mae"]))
    changes = [text for text in differences(configuration(base), config) if tells(text.partition(":")[0], config)]
    return {
        "run": run.name,
        "base": "" if run == base else base.name,
        "changes": "; ".join(changes),
        "seed": config["seed"],
        "epochs": len(epochs),
        "image_size": config["model"]["image_size"],
        "minutes": round(float(epochs[-1]["seconds"]) / 60),
        "best_epoch": best["epoch"],
        "val_mae": f"{float(best['val_mae']):.4f}",
        "val_f": f"{float(best['val_f']):.4f}",
    }


def tells(key: str, config: dict) -> bool:
    """Whether a changed key belongs in `changes`: it bears on the result, and no column of its own tells it.

    Of a RecNet that goes on from a preset, `model` says nothing: the preset brings its own arguments.
    """
    from_preset = config["task"] == "saliency" and not names_backbone_weights(config["init"])
    return key not in APART and not (from_preset and key.startswith("model."))


def configuration(run: Path) -> dict:
    """What a run was made with, as far as it bears on the result."""
    return with_current_defaults(yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
