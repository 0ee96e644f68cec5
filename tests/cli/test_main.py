import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_recnet.cli import main
from keras_recnet.errors import ConfigError, DataError, DiskError, PresetError


def test_presets_lists_the_shipped_presets(capfd):
    assert main.main(["presets"]) == 0
    names = [line.split()[0] for line in capfd.readouterr().out.splitlines() if not line.startswith(" ")]
    assert names == ["rcau_lite0", "recnet_lite0"]
    assert main.main(["presets", "--json"]) == 0
    listed = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [preset["name"] for preset in listed] == names
    for preset in listed:
        assert all(file["bytes"] < 8_000_000 for file in preset["files"].values())


def test_train_passes_its_arguments_on(monkeypatch):
    from keras_recnet.training import run

    given = []
    monkeypatch.setattr(run, "train", lambda *arguments, **processes: given.append((*arguments, processes)))
    flags = ["--processes", "2", "--process", "1", "--coordinator", "host:9"]
    assert main.main(["train", "smoke", "--set", "seed=1", "--set", "output=x y", "--resume", *flags]) == 0
    assert given == [("smoke", ["seed=1", "output=x y"], True, {"processes": 2, "process": 1, "coordinator": "host:9"})]


@pytest.mark.parametrize(("error", "status"), [(ConfigError, 2), (DataError, 2), (PresetError, 2), (DiskError, 1)])
def test_train_reports_an_error_without_a_traceback(monkeypatch, capfd, error, status):
    from keras_recnet.training import run

    def fail(*arguments, **processes):
        raise error("config.yaml: epoch: unknown key. Did you mean 'epochs'?")

    monkeypatch.setattr(run, "train", fail)
    assert main.main(["train", "smoke"]) == status
    assert capfd.readouterr().err == "Error: config.yaml: epoch: unknown key. Did you mean 'epochs'?\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.yaml"], "gone.yaml"),
        (["smoke", "--set", "epoch=3"], "epoch: unknown key. Did you mean 'epochs'?"),
        (["smoke", "--set", "epochs=many"], "epochs"),
        (["recnet_lite0", "--set", "data.root=gone"], "data.root: gone: no such folder"),
        (["finetune", "--set", "init=recnet_lite", "--set", "data.root=gone"], "Did you mean 'recnet_lite0'"),
        (["finetune", "--set", "data.root=gone", "--resume", "--set", "output=gone"], "no checkpoint to resume from"),
        (
            ["smoke", "--set", "optimizer.warmup_steps=99", "--set", "output=gone"],
            "99 must be less than the 16 training steps",
        ),
    ],
)
def test_train_reports_a_wrong_command_before_it_loads_tensorflow(tmp_path, arguments, message):
    code = (
        "import sys\nfrom keras_recnet.cli import main\n"
        "assert main.main(['train', *sys.argv[1:]]) == 2\n"
        "assert not {'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)\n"
    )
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((root, os.environ.get("PYTHONPATH", "")))}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert message in done.stderr


@pytest.mark.parametrize("package", ["keras", "tensorflow", "pydantic"])
def test_train_names_the_extra_for_its_missing_packages(tmp_path, package):
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('No module named {package}', name='{package}')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))}
    command = [sys.executable, "-m", "keras_recnet", "train", "smoke"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert 'pip install "keras-recnet[tensorflow]"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "photo.jpg", "-o", "out", "--preset", "gone"],
        ["cosal", "photos", "-o", "out", "--preset", "gone"],
        ["export", "gone", "-o", "out", "--format", "litert"],
        ["export", "recnet_lite0", "-o", "out", "--format", "litert", "--signatures", "gone"],
        ["bench", "gone"],
        ["evaluate", "--masks", "photos", "--images", "photos", "--preset", "gone", "-o", "out"],
        ["train", "gone"],
        ["train", "recnet_lite0", "--set", "data.root=gone", "--set", "output=run"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_a_missing_preset_folder_or_signature_exits_with_2(arguments, save_photo, tmp_path, monkeypatch, capfd):
    save_photo("photo.jpg")
    save_photo("photos/1.jpg")
    monkeypatch.chdir(tmp_path)
    assert main.main(arguments) == 2
    assert "gone" in capfd.readouterr().err


@pytest.mark.parametrize("command", sorted(main.cli.commands))
def test_every_command_documents_its_exit_status(command, capfd):
    assert main.main([command, "--help"]) == 0
    assert "Exit status:" in capfd.readouterr().out
