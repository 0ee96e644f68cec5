import pytest


@pytest.fixture(scope="session", autouse=True)
def registered(tiny_backbone):
    """Every test of a model may use the backbone `"tiny"`."""
