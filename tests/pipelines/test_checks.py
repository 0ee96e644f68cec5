import threading
import time

import numpy as np
import pytest
from PIL import Image

from keras_recnet.pipelines import Pair, PipelineDataError, check_pairs, find_pairs
from keras_recnet.pipelines.cache import RESERVE, available_memory, fill_cache
from keras_recnet.pipelines.checks import for_all


@pytest.fixture
def faulty(folders, save_pair):
    """Twelve pairs, six of them faulty: `(pairs, {name: message})`."""
    images, masks = folders
    for number in range(6):
        save_pair(f"good{number}")
    for name in ("truncated", "text", "empty", "size", "damaged mask", "photo as mask"):
        save_pair(name)
    content = (images / "truncated.jpg").read_bytes()
    (images / "truncated.jpg").write_bytes(content[:-40])
    (masks / "text.png").write_text("this is a text, not a PNG")
    (images / "empty.jpg").write_bytes(b"")
    Image.new("L", (30, 30)).save(masks / "size.png")
    content = bytearray((masks / "damaged mask.png").read_bytes())
    content[60] ^= 255
    (masks / "damaged mask.png").write_bytes(content)
    Image.open(images / "good0.jpg").save(masks / "photo as mask.png")
    messages = {
        "damaged mask": "damaged mask.png: cannot be decoded",
        "empty": "empty.jpg: the file is empty",
        "photo as mask": "photo as mask.png: a color image, not a mask",
        "size": "size.png: 30×30 pixels do not have the proportions",
        "text": "text.png: not an image",
        "truncated": "truncated.jpg: cannot be decoded",
    }
    return find_pairs(*folders), messages


def assert_reports(error, messages):
    assert len(error.problems) == len(messages)
    for problem, name in zip(error.problems, sorted(messages), strict=True):
        assert messages[name] in problem


def test_good_pairs_pass(folders, save_pair):
    for name in "abc":
        save_pair(name)
    seen = []
    for decode in (False, True):
        check_pairs(find_pairs(*folders), decode=decode, progress=lambda *step: seen.append(step))
    assert seen == [(1, 3), (2, 3), (3, 3)] * 2


def test_most_faults_are_found_without_decoding(faulty):
    pairs, messages = faulty
    del messages["photo as mask"], messages["truncated"]
    with pytest.raises(PipelineDataError) as caught:
        check_pairs(pairs)
    assert_reports(caught.value, messages)


def test_decoding_finds_every_fault(faulty):
    pairs, messages = faulty
    with pytest.raises(PipelineDataError) as caught:
        check_pairs(pairs, decode=True)
    assert_reports(caught.value, messages)


def test_filling_the_cache_finds_every_fault(faulty):
    pairs, messages = faulty
    with pytest.raises(PipelineDataError) as caught:
        fill_cache(pairs, (8, 8))
    assert_reports(caught.value, messages)


def test_several_faults_of_one_pair_are_reported_together(folders, save_pair):
    images, masks = folders
    save_pair("damaged image, wrong mask size")
    path = images / "damaged image, wrong mask size.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    Image.new("L", (30, 30)).save(masks / "damaged image, wrong mask size.png")
    save_pair("photo of another size as mask")
    Image.open(images / "photo of another size as mask.jpg").resize((30, 30)).save(
        masks / "photo of another size as mask.png"
    )
    with pytest.raises(PipelineDataError) as caught:
        check_pairs(find_pairs(*folders), decode=True)
    messages = (".jpg: cannot be decoded", ".png: 30×30 pixels", ".png: a color image", ".png: 30×30 pixels")
    for problem, message in zip(caught.value.problems, messages, strict=True):
        assert message in problem


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("extension", [".jpg", ".png"])
@pytest.mark.parametrize("mask_size", [(40, 30), (30, 40)])
def test_a_mask_that_matches_the_upright_or_the_stored_image_passes(tmp_path, decode, extension, mask_size):
    exif = Image.Exif()
    exif[0x0112] = 6
    image, mask = tmp_path / f"a{extension}", tmp_path / "mask.png"
    Image.new("RGB", (40, 30)).save(image, exif=exif)
    Image.new("L", mask_size).save(mask)
    check_pairs([Pair("a", image, mask)], decode=decode)


def test_an_interruption_does_not_wait_for_queued_files():
    started = []

    def slow(item):
        started.append(item)
        time.sleep(0.02)

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        for_all(slow, range(1000), workers=2, progress=interrupt)
    assert len(started) < 20
    assert threading.active_count() < 20


# The cache


def test_the_cache_holds_image_and_mask(folders, save_pair):
    images, masks = folders
    for name in ("a", "b"):
        save_pair(name, size=(40, 30), image_extension=".png")
    array = fill_cache(find_pairs(images, masks), (30, 40))
    assert array.shape == (2, 30, 40, 4)
    for row, name in zip(array, "ab", strict=True):
        np.testing.assert_array_equal(row[..., :3], np.asarray(Image.open(images / f"{name}.png")))
        np.testing.assert_array_equal(row[..., 3], np.asarray(Image.open(masks / f"{name}.png")))


def test_a_cache_that_does_not_fit_is_refused(folders, save_pair, monkeypatch):
    save_pair("a")
    monkeypatch.setattr("keras_recnet.pipelines.cache.available_memory", lambda: RESERVE + 8 * 8 * 4 - 1)
    with pytest.raises(PipelineDataError, match=r"(?s)caching 1 pairs at 8×8 takes .* GiB are free.*`cache: none`"):
        fill_cache(find_pairs(*folders), (8, 8))
    monkeypatch.setattr("keras_recnet.pipelines.cache.available_memory", lambda: RESERVE + 8 * 8 * 4)
    assert fill_cache(find_pairs(*folders), (8, 8)).shape == (1, 8, 8, 4)


def system(root, **files):
    for name, content in {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 5000 kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return available_memory(root)


def test_free_memory_is_read_from_the_machine(tmp_path):
    assert system(tmp_path) == 5000 * 1024


def test_free_memory_respects_the_limit_of_a_container(tmp_path):
    # 3 MB allowed, 2 MB used, 1 MB of which is reclaimable page cache: 2 MB are free.
    group = {"memory.max": "3000000\n", "memory.current": "2000000\n", "memory.stat": "anon 7\ninactive_file 1000000\n"}
    assert system(tmp_path, **{f"sys/fs/cgroup/{name}": text for name, text in group.items()}) == 2000000


def test_free_memory_respects_the_limit_of_an_older_container(tmp_path):
    group = {
        "memory.limit_in_bytes": "3000000\n",
        "memory.usage_in_bytes": "2000000\n",
        "memory.stat": "total_inactive_file 500000\n",
    }
    assert system(tmp_path, **{f"sys/fs/cgroup/memory/{name}": text for name, text in group.items()}) == 1500000


def test_a_container_without_a_limit_has_the_memory_of_the_machine(tmp_path):
    group = {"memory.max": "max\n", "memory.current": "2000000\n", "memory.stat": "inactive_file 0\n"}
    assert system(tmp_path, **{f"sys/fs/cgroup/{name}": text for name, text in group.items()}) == 5000 * 1024


def test_free_memory_is_none_where_it_is_unknown(tmp_path):
    assert available_memory(tmp_path) is None
