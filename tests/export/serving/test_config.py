"""The configuration files of TF Serving parse and refer to each other correctly."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format

from keras_recnet import presets
from keras_recnet.export.serving import client, grpc_client, rest_client

FOLDER = Path(client.__file__).parent
FAKE_SERVER = Path(__file__).parent / "fake_server"


@pytest.fixture(scope="module")
def models():
    from tensorflow_serving.config import model_server_config_pb2

    text = (FOLDER / "models.config").read_text()
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


@pytest.fixture
def batching(monkeypatch):
    """The module of the fake server whose `parse` builds TF Serving's message."""
    monkeypatch.syspath_prepend(str(FAKE_SERVER))
    yield runpy.run_path(str(FAKE_SERVER / "batching.py"))
    sys.modules.pop("errors", None)


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((FOLDER / "docker-compose.yaml").read_text())


def test_models_are_shipped_presets(models):
    # docs/serving.md exports this model; the server does not start if the folder of a model is missing
    assert [model.name for model in models.model_config_list.config] == ["recnet_lite0"]
    for model in models.model_config_list.config:
        assert model.base_path == f"/models/{model.name}"
        assert model.model_platform == "tensorflow"
        assert model.model_version_policy.latest.num_versions == 1


def test_commented_out_models_parse_as_well(models):
    from tensorflow_serving.config import model_server_config_pb2

    text = re.sub(r"^  # (config \{|  .*|\})$", r"  \1", (FOLDER / "models.config").read_text(), flags=re.MULTILINE)
    whole = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    names = [model.name for model in whole.model_config_list.config]
    assert sorted(names) == [preset.name for preset in presets.available()]


def test_batching_accepts_the_requests_of_the_clients(batching):
    parameters = batching["parse"]((FOLDER / "batching.config").read_text())
    assert parameters.max_batch_size.value >= 2 * 8  # two requests of the clients' default size
    assert parameters.batch_timeout_micros.value <= 10_000
    assert parameters.max_enqueued_batches.value > 0
    assert parameters.num_batch_threads.value > 0


def test_fake_server_refuses_batching_with_padding(batching):
    for text in ("pad_variable_length_inputs: true", "allowed_batch_sizes: 4"):
        with pytest.raises(ValueError, match="no padding"):
            batching["parse"](text)
    with pytest.raises(text_format.ParseError):
        batching["parse"]("max_batch { value: 3 }")


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_services_mount_their_files_and_publish_their_ports(compose, name):
    service = compose["services"][name]
    mounted = {target: source for source, target, _ in (volume.rsplit(":", 2) for volume in service["volumes"])}
    for flag in service["command"]:
        match = re.fullmatch(r"--\w+=(/config/\S+)", flag)
        if match:
            assert (FOLDER / mounted[match[1]]).is_file()
    assert "--enable_batching=true" in service["command"]
    assert "--enable_per_model_batching_parameters=true" in service["command"]
    assert mounted["/models"] == "${MODELS:-./models}"
    ports = dict(re.fullmatch(r"127\.0\.0\.1:\$\{\w+:-(\d+)\}:(\d+)", port).groups() for port in service["ports"])
    assert set(ports) == {rest_client.URL.rpartition(":")[2], grpc_client.TARGET.rpartition(":")[2]} == {"8501", "8500"}
    assert all(inside == outside for outside, inside in ports.items())
    assert "recnet_lite0" in service["healthcheck"]["test"][-1]


def test_only_the_gpu_service_requests_a_gpu(compose):
    services = compose["services"]
    assert "deploy" not in services["cpu"]
    assert "profiles" not in services["cpu"]
    (device,) = services["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert services["gpu"]["image"].endswith("-gpu")
    assert services["gpu"]["profiles"] == ["gpu"]


def test_monitoring_is_enabled():
    text = (FOLDER / "monitoring.config").read_text()
    assert re.search(
        r"^prometheus_config \{\n  enable: true\n  path: \"/monitoring/prometheus/metrics\"\n\}$", text, re.M
    )
