"""Fixtures for the tests of the command line."""

import functools

import pytest

from keras_recnet.cli import main


@pytest.fixture
def run_command(capfd):
    """Run `keras-recnet` in this process: `run_command(*arguments)` -> (status, stdout, stderr)."""

    def run(*arguments):
        status = main.main([*map(str, arguments)])
        return (status, *capfd.readouterr())

    return run


@pytest.fixture
def run(run_command, tiny_preset):
    """Run `keras-recnet predict` with the tiny preset: `run(*arguments)` -> (status, stdout, stderr)."""
    return functools.partial(run_command, "predict", "--preset", tiny_preset)
