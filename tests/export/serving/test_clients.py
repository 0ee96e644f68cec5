"""Both clients against the stand-in server, which runs the SavedModel of a tiny RecNet."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import ExifTags, Image

from keras_recnet.cli.remote import main
from keras_recnet.errors import ImageError
from keras_recnet.export.serving.client import Answer, PictureError, ServerError
from keras_recnet.export.serving.grpc_client import GrpcClient
from keras_recnet.export.serving.rest_client import RestClient


def test_gives_the_maps_that_the_model_computes(client, assert_same, map_of, save_photo):
    paths = [save_photo("a.jpg"), save_photo("b.png", (70, 40)), save_photo("c.webp", (33, 90), lossless=True)]
    maps = list(client.map(paths))
    assert [saliency_map.shape for saliency_map in maps] == [(48, 64), (70, 40), (33, 90)]
    for path, saliency_map in zip(paths, maps, strict=True):
        assert saliency_map.max() - saliency_map.min() > 0.05
        assert_same(saliency_map, map_of(path))


def test_takes_every_kind_of_picture(client, assert_same, map_of, save_photo):
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


def test_names_the_picture_that_failed_and_gives_the_maps_of_the_others(client, assert_same, map_of, save_photo):
    good, cut, large = save_photo("a.jpg"), save_photo("cut.jpg"), save_photo("large.png", (300, 400))
    cut.write_bytes(cut.read_bytes()[:-200])
    pictures = [good, cut, good.parent / "none.jpg", large, b"garbage", good]
    for batch_size in (1, 3, 8):
        maps = list(client.map(iter(pictures), batch_size=batch_size, errors="return"))
        assert_same(maps[0], map_of(good))
        assert_same(maps[5], map_of(good))
        failed = maps[1:5]
        assert [(error.index, error.status) for error in failed] == [(1, 1), (2, None), (3, 2), (4, None)]
        assert [error.name for error in failed] == [str(cut), str(pictures[2]), str(large), None]
        assert str(failed[0]).startswith(f"picture 1 ({cut}): undecodable")
        assert str(failed[1]).startswith(f"picture 2 ({pictures[2]}): no such file")
        assert str(failed[2]).startswith(f"picture 3 ({large}): too large")
        assert str(failed[3]).startswith("picture 4: the bytes given: not a picture")


def test_raises_at_the_turn_of_the_picture_that_failed(client, save_photo):
    cut = save_photo("cut.jpg")
    cut.write_bytes(cut.read_bytes()[:-200])
    maps = client.map([save_photo("a.jpg"), cut])
    assert next(maps).shape == (48, 64)
    with pytest.raises(PictureError, match=r"picture 1 .*undecodable"):
        next(maps)
    with pytest.raises(ImageError, match=r"picture 0 .*undecodable"):
        client(cut)


def test_splits_what_is_too_much_for_one_request(client, save_photo, monkeypatch):
    sizes = []
    send = client.send
    monkeypatch.setattr(client, "send", lambda files: sizes.append(len(files)) or send(files))
    path = save_photo("a.png")
    monkeypatch.setattr(client, "max_request_bytes", 2 * path.stat().st_size)
    assert len(list(client.map([path] * 5, jobs=1))) == 5
    assert sizes == [2, 2, 1]


def test_sends_bytes_as_they_are(client):
    assert client.send([b"", b"garbage"]) == [Answer(1, b""), Answer(1, b"")]


def test_may_be_called_from_several_threads(client, assert_same, map_of, save_photo):
    paths = [save_photo(f"{side}.png", (side, 50)) for side in (30, 50, 70, 90)]
    expected = [map_of(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for saliency_map, right in zip(pool.map(client, paths), expected, strict=True):
                assert_same(saliency_map, right)


def test_the_map_is_a_png_of_the_pictures_size(client, save_photo):
    (answer,) = client.send([save_photo("a.jpg").read_bytes()])
    with Image.open(io.BytesIO(answer.png)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (64, 48))


@pytest.mark.parametrize(("name", "version"), [("other", None), ("tiny", 7)])
def test_names_a_model_that_is_not_served(server, save_photo, name, version):
    clients = RestClient(name, server.url, version=version), GrpcClient(name, server.target, version=version)
    for client, code in zip(clients, (404, "NOT_FOUND"), strict=True):
        with client, pytest.raises(ServerError, match=r"picture 0 \(.*a.jpg\): .*Servable not found") as caught:
            client(save_photo("a.jpg"))
        assert caught.value.code == code
        assert not caught.value.temporary


def test_asks_for_a_version(server, save_photo):
    for client in (RestClient("tiny", server.url, version=1), GrpcClient("tiny", server.target, version=1)):
        with client:
            assert client.is_ready()
            assert client(save_photo("a.jpg")).shape == (48, 64)


def test_refuses_wrong_arguments(client):
    for options in ({"errors": "ignore"}, {"batch_size": 0}, {"jobs": 0}):
        with pytest.raises(ValueError, match="Received"):
            client.map([], **options)


def test_no_pictures_are_no_request(client):
    assert list(client.map([])) == []


@pytest.mark.parametrize("kind", [RestClient, GrpcClient])
def test_command_line_writes_maps_and_names_what_failed(
    server, kind, assert_same, save_photo, map_of, tmp_path, capsys
):
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
    assert "Error: picture 0" in capsys.readouterr().err


def test_command_line_answers_before_it_connects():
    for name in ("rest_client", "grpc_client"):
        command = [sys.executable, "-m", f"keras_recnet.export.serving.{name}", "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "--batch-size" in done.stdout
