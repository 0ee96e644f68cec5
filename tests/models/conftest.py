import pytest


@pytest.fixture(scope="session", autouse=True)
def registered(tiny_backbone):
    """Make the backbone `"tiny"` available to all tests of models."""
