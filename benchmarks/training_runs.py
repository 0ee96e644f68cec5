"""Add a line per training run to docs/training_runs.csv, or replace the run's existing line.

    python benchmarks/training_runs.py runs/short/*
    python benchmarks/training_runs.py runs/recnet_lite0_160 runs/recnet_lite0 --base runs/recnet_lite0_160

`changes` lists the differences between the configurations of the run and of the `--base` run (default: the first run),
except for the paths of files. The scores are those of the epoch with the lowest validation error, at the training size.
"""

import argparse
import csv
from pathlib import Path

import yaml

from keras_recnet.training.config.loading import differences, names_backbone_weights, with_current_defaults

LOG = Path(__file__).parents[1] / "docs" / "training_runs.csv"
COLUMNS = ["run", "base", "changes", "seed", "epochs", "image_size", "minutes", "best_epoch", "val_mae", "val_f"]
PATHS = ("data.root", "data.images", "data.masks", "data.list", "data.features", "data.validation")
IGNORED = (*PATHS, "seed", "epochs", "model.image_size", "data.cache_size")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="output folders of `keras-recnet train`")
    parser.add_argument("--base", type=Path, help="run to compare with; default: the first run")
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
    """Return the line of a run."""
    config = configuration(run)
    with (run / "log.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))
    best = min(epochs, key=lambda row: float(row["val_mae"]))
    changes = [text for text in differences(configuration(base), config) if is_relevant(text.partition(":")[0], config)]
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


def is_relevant(key: str, config: dict) -> bool:
    """Return whether a key belongs in `changes`: it affects the result, and has no column.

    For a RecNet that starts from a preset, `model` is ignored, because the preset defines the architecture.
    """
    from_preset = config["task"] == "saliency" and not names_backbone_weights(config["init"])
    return key not in IGNORED and not (from_preset and key.startswith("model."))


def configuration(run: Path) -> dict:
    """Return the configuration of a run, without keys that do not affect the result."""
    return with_current_defaults(yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
