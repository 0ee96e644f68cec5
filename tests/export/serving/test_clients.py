"""Both clients against the fake server, which runs the SavedModel of a tiny RecNet."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import ExifTags, Image

from keras_recnet.cli.remote import main
from keras_recnet.errors import ImageError
from keras_recnet.export.serving.client import Answer, RequestImageError, ServerError
from keras_recnet.export.serving.grpc_client import GrpcClient
from keras_recnet.export.serving.rest_client import RestClient


def test_maps_equal_those_of_the_model(client, assert_same, map_of, save_photo):
    paths = [save_photo("a.jpg"), save_photo("b.png", (70, 40)), save_photo("c.webp", (33, 90), lossless=True)]
    maps = list(client.map(paths))
    assert [saliency_map.shape for saliency_map in maps] == [(48, 64), (70, 40), (33, 90)]
    for path, saliency_map in zip(paths, maps, strict=True):
        assert saliency_map.max() - saliency_map.min() > 0.05
        assert_same(saliency_map, map_of(path))


def test_accepts_every_kind_of_image(client, assert_same, map_of, save_photo):
    path = save_photo("a.png")
    rgb = np.asarray(Image.open(path))
    for source in (path, str(path), path.read_bytes(), rgb, Image.fromarray(rgb)):
        assert_same(client(source), map_of(path))


def test_applies_the_exif_rotation_before_sending(client, assert_same, map_of, save_photo):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = save_photo("a.jpg", exif=exif, quality=95)
    saliency_map = client(path)
    assert_same(saliency_map, map_of(path))
    lying = map_of(np.asarray(Image.open(path)))
    assert saliency_map.shape == (64, 48) == lying.shape[::-1]
    assert np.abs(saliency_map - np.rot90(lying, -1)).mean() > 5 / 255


@pytest.mark.parametrize("kind", [np.array, bytearray, Image.fromarray])
def test_maps_of_a_reused_buffer_equal_maps_of_separate_images(client, kind):
    frames = np.random.default_rng(0).integers(0, 256, (5, 24, 32, 3), dtype=np.uint8)
    frames[1:3] //= 2
    buffer = Image.fromarray(frames[0]) if kind is Image.fromarray else kind(frames[0])

    def reused():
        for frame in frames:
            if kind is bytearray:
                file = io.BytesIO()
                Image.fromarray(frame).save(file, "PNG")
                buffer[:] = file.getvalue()
            elif kind is Image.fromarray:
                buffer.paste(Image.fromarray(frame))
            else:
                buffer[:] = frame
            yield buffer

    maps = list(client.map(reused(), batch_size=2))
    for frame, saliency_map in zip(frames, maps, strict=True):
        np.testing.assert_array_equal(saliency_map, client(frame))
    assert np.abs(maps[0] - maps[1]).max() > 0.01


def test_reports_images_that_fail_and_returns_the_other_maps(client, assert_same, map_of, save_photo):
    good, cut, large = save_photo("a.jpg"), save_photo("cut.jpg"), save_photo("large.png", (300, 400))
    cut.write_bytes(cut.read_bytes()[:-200])
    images = [good, cut, good.parent / "none.jpg", large, b"garbage", good]
    for batch_size in (1, 3, 8):
        maps = list(client.map(iter(images), batch_size=batch_size, errors="return"))
        assert_same(maps[0], map_of(good))
        assert_same(maps[5], map_of(good))
        failed = maps[1:5]
        assert [(error.index, error.status) for error in failed] == [(1, 1), (2, None), (3, 2), (4, None)]
        assert [error.name for error in failed] == [str(cut), str(images[2]), str(large), None]
        assert str(failed[0]).startswith(f"image 1 ({cut}): undecodable")
        assert str(failed[1]).startswith(f"image 2 ({images[2]}): no such file")
        assert str(failed[2]).startswith(f"image 3 ({large}): too large")
        assert str(failed[3]).startswith("image 4: the bytes given: not an image")


def test_raises_an_error_in_place_of_a_map_that_is_missing(client, save_photo):
    cut = save_photo("cut.jpg")
    cut.write_bytes(cut.read_bytes()[:-200])
    maps = client.map([save_photo("a.jpg"), cut])
    assert next(maps).shape == (48, 64)
    with pytest.raises(RequestImageError, match=r"image 1 .*undecodable"):
        next(maps)
    with pytest.raises(ImageError, match=r"image 0 .*undecodable"):
        client(cut)


def test_splits_a_batch_that_is_too_large_for_one_request(client, save_photo, monkeypatch):
    sizes = []
    send = client._send
    monkeypatch.setattr(client, "_send", lambda files, stop: sizes.append(len(files)) or send(files, stop))
    path = save_photo("a.png")
    monkeypatch.setattr(client, "max_request_bytes", 2 * path.stat().st_size)
    assert len(list(client.map([path] * 5, jobs=1))) == 5
    assert sizes == [2, 2, 1]


def test_sends_bytes_unchanged(client):
    assert client.send([b"", b"garbage"]) == [Answer(1, b""), Answer(1, b"")]


def test_can_be_called_from_several_threads(client, assert_same, map_of, save_photo):
    paths = [save_photo(f"{side}.png", (side, 50)) for side in (30, 50, 70, 90)]
    expected = [map_of(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for saliency_map, right in zip(pool.map(client, paths), expected, strict=True):
                assert_same(saliency_map, right)


def test_the_answer_is_a_png_of_the_image_size(client, save_photo):
    (answer,) = client.send([save_photo("a.jpg").read_bytes()])
    with Image.open(io.BytesIO(answer.png)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (64, 48))


@pytest.mark.parametrize(("name", "version"), [("other", None), ("tiny", 7)])
def test_reports_a_model_that_is_not_served(server, save_photo, name, version):
    clients = RestClient(name, server.url, version=version), GrpcClient(name, server.target, version=version)
    for client, code in zip(clients, (404, "NOT_FOUND"), strict=True):
        with client, pytest.raises(ServerError, match=r"image 0 \(.*a.jpg\): .*Servable not found") as caught:
            client(save_photo("a.jpg"))
        assert caught.value.code == code
        assert not caught.value.temporary


def test_the_client_requests_the_given_version(server, save_photo):
    for client in (RestClient("tiny", server.url, version=1), GrpcClient("tiny", server.target, version=1)):
        with client:
            assert client.is_ready()
            assert client(save_photo("a.jpg")).shape == (48, 64)


def test_refuses_wrong_arguments(client):
    for options in ({"errors": "ignore"}, {"batch_size": 0}, {"jobs": 0}):
        with pytest.raises(ValueError, match="Received"):
            client.map([], **options)


def test_without_images_no_request_is_sent(client):
    assert list(client.map([])) == []


@pytest.mark.parametrize("kind", [RestClient, GrpcClient])
def test_command_writes_maps_and_reports_failures(server, kind, assert_same, save_photo, map_of, tmp_path, capsys):
    url = server.url if kind is RestClient else server.target
    good, cut = save_photo("in/deep/a.jpg"), save_photo("in/cut.jpg")
    cut.write_bytes(cut.read_bytes()[:-200])
    arguments = [str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--url", url, "--model", "tiny"]
    assert main(kind, "unused", arguments) == 1
    said = capsys.readouterr().err
    assert "1 of 2 images" in said
    assert f"({cut}): undecodable" in said
    with Image.open(tmp_path / "out" / "deep" / "a.png") as image:
        assert_same(np.asarray(image, np.float32) / 255.0, map_of(good))
    assert not (tmp_path / "out" / "cut.png").exists()

    cut.unlink()
    assert main(kind, url, [*arguments[:3], "--model", "tiny", "--json"]) == 0
    assert main(kind, url, [str(good), "-o", str(tmp_path / "out"), "--model", "other"]) == 1
    assert "Error: image 0" in capsys.readouterr().err


def test_command_prints_its_help_without_a_server():
    for name in ("rest_client", "grpc_client"):
        command = [sys.executable, "-m", f"keras_recnet.export.serving.{name}", "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "--batch-size" in done.stdout
