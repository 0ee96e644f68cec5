"""The page in a real browser."""

import shutil

import numpy as np
import pytest
from PIL import Image

from keras_recnet import Predictor, presets
from keras_recnet.export.web import site as sites
from keras_recnet.imaging import drawing, reading
from keras_recnet.imaging.cutout import cutout
from keras_recnet.imaging.resizing import resize, resize_map
from keras_recnet.inference.group_engines import LiteRTGroupEngine
from keras_recnet.inference.group_stream import empty_state

READY = "#message:text-is('Ready.')"
FAILED = "#errors li"
MAP_TOLERANCE = 2  # of 255, mean


@pytest.fixture(scope="session")
def url(serve, shipped_site, tmp_path_factory):
    """Address of the shipped page, under a subpath."""
    root = tmp_path_factory.mktemp("host")
    shutil.copytree(shipped_site, root / "some" / "path")
    return f"{serve(root).url}some/path/"


def watch(page, address):
    """Return a list of the page's errors and of its requests to other addresses."""
    problems = []

    def check(requested):
        if not requested.startswith((address, "blob:", "data:")):
            problems.append(f"request of {requested}")

    page.on("pageerror", lambda error: problems.append(f"{error}"))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: check(request.url))
    page.on("requestfailed", lambda request: problems.append(f"{request.url} failed"))
    return problems


@pytest.fixture
def new_page(chromium):
    """A page that has not been loaded."""
    page = chromium.new_page()
    yield page
    page.close()


@pytest.fixture(scope="session")
def shared_page(chromium, url):
    """A page that most tests share, because loading is slow. It has no errors and contacts no other server."""
    page = chromium.new_page(viewport={"width": 1100, "height": 900}, accept_downloads=True)
    problems = watch(page, url)
    page.goto(url)
    page.wait_for_selector(READY)
    yield page
    page.close()
    assert problems == []


@pytest.fixture(scope="session")
def predictor():
    return Predictor("recnet_lite0", precision="int8")


def choose(page, *paths, kind="alone"):
    """Choose photos and wait for the result."""
    page.evaluate("delete document.getElementById('canvas').dataset.shown")
    page.set_input_files("#files", [str(path) for path in paths])
    page.wait_for_selector(f"#canvas[data-shown$=' {kind}'], #canvas[data-shown*=' {kind} from'], {FAILED}")


def view(page, name):
    page.check(f"#views input[value={name}]", force=True)
    page.wait_for_selector(f"#canvas[data-shown*=' {name} ']")


def download(page):
    """Download the current view: uint8 array and name of the file."""
    with page.expect_download() as download:
        page.click("#save")
    return np.asarray(Image.open(download.value.path())), download.value.suggested_filename


def gray(drawn):
    assert (drawn[..., 0] == drawn[..., 1]).all()
    assert (drawn[..., 1] == drawn[..., 2]).all()
    return drawn[..., 0].astype(int)


def test_the_map_of_a_photo_equals_that_of_native_litert(shared_page, predictor, photographs):
    for photo in photographs[:3]:
        choose(shared_page, photo)
        view(shared_page, "map")
        drawn, name = download(shared_page)
        expected = drawing.to_8_bits(predictor.predict(reading.read(photo)))
        assert name == f"{photo.stem}.map.png"
        assert drawn.shape[:2] == expected.shape
        assert np.abs(gray(drawn) - expected).mean() <= MAP_TOLERANCE
        assert expected.max() > 200  # there is an object


def test_the_cutout_and_the_overlay_equal_those_of_the_library(shared_page, predictor, photographs):
    decoded = reading.read(photographs[0])
    choose(shared_page, photographs[0])
    saliency = predictor.predict(decoded)
    view(shared_page, "overlay")
    drawn, _ = download(shared_page)
    assert np.abs(drawn[..., :3].astype(int) - drawing.overlay(decoded.rgb, saliency)).mean() < 2
    view(shared_page, "cutout")
    drawn, _ = download(shared_page)
    expected = cutout(decoded.rgb, saliency)
    assert np.abs(drawn[..., 3].astype(int) - expected[..., 3]).mean() < 2
    visible = (drawn[..., 3] > 128) & (expected[..., 3] > 128)
    assert visible.any()
    assert np.abs(drawn[visible].astype(int) - expected[visible]).mean() < 2


@pytest.mark.parametrize("orientation", [3, 6])
def test_the_orientation_of_a_photo_is_applied(shared_page, predictor, photographs, tmp_path, orientation):
    photo = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(photographs[0]).convert("RGB").save(photo, quality=95, exif=exif)
    choose(shared_page, photo)
    view(shared_page, "map")
    drawn, _ = download(shared_page)
    expected = drawing.to_8_bits(predictor.predict(reading.read(photo)))
    assert drawn.shape[:2] == expected.shape
    assert np.abs(gray(drawn) - expected).mean() <= MAP_TOLERANCE


def test_a_transparent_photo_is_put_on_white_and_stays_transparent_in_the_cutout(
    shared_page, predictor, photographs, tmp_path
):
    image = Image.open(photographs[0]).convert("RGBA")
    alpha = np.full(image.size[::-1], 255, np.uint8)
    alpha[:, : image.width // 2] = 0
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "half.png")
    choose(shared_page, tmp_path / "half.png")
    view(shared_page, "map")
    drawn, _ = download(shared_page)
    decoded = reading.read(tmp_path / "half.png")
    assert np.abs(gray(drawn) - drawing.to_8_bits(predictor.predict(decoded))).mean() <= MAP_TOLERANCE
    view(shared_page, "cutout")
    drawn, _ = download(shared_page)
    assert not drawn[:, : image.width // 2, 3].any()
    assert drawn[..., 3].any()


def test_a_click_shows_what_the_point_attends_to(shared_page, shipped_site, photographs):
    from ai_edge_litert.interpreter import Interpreter

    choose(shared_page, photographs[0])
    box = shared_page.locator("#canvas").bounding_box()
    x, y = 0.4, 0.55
    shared_page.locator("#canvas").click(position={"x": x * box["width"], "y": y * box["height"]})
    shared_page.wait_for_selector("#canvas[data-shown*='40 % from the left, 55 % from the top']")
    drawn, name = download(shared_page)
    assert name.endswith(".attention.png")

    rgb = reading.read(photographs[0]).rgb
    outputs = Interpreter(str(shipped_site / "models" / "recnet_lite0.tflite")).get_signature_runner()(
        image=resize(rgb, (320, 320))[None].astype(np.float32)
    )
    position = int(y * 40) * 40 + int(x * 40)
    scores = outputs["background_keys"][0] @ outputs["foreground_keys"][0, position]
    weights = np.exp(scores - scores.max()).reshape(40, 40)
    pixel = (int(y * rgb.shape[0]), int(x * rgb.shape[1]))
    error, of_other_weights = (
        np.abs(drawn[..., :3] - drawing.attention(rgb, each, pixel).astype(int)).mean()
        for each in (weights, np.roll(weights, 4, axis=1))
    )
    assert error < 1
    assert of_other_weights > 3 * error


def test_arrow_keys_move_the_point_and_are_announced(shared_page, photographs):
    choose(shared_page, photographs[0])
    box = shared_page.locator("#canvas").bounding_box()
    shared_page.locator("#canvas").click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    shared_page.wait_for_selector("#canvas[data-shown*='50 % from the left, 50 % from the top']")
    shared_page.locator("#canvas").press("ArrowRight")
    shared_page.locator("#canvas").press("ArrowUp")
    shared_page.wait_for_selector("#canvas[data-shown*='53 % from the left, 48 % from the top']")
    shared_page.wait_for_selector("#message[role=status]:has-text('53 % from the left, 48 % from the top')")


def test_the_maps_of_a_group_equal_those_of_native_litert(shared_page, photographs):
    photos = photographs[:3]
    choose(shared_page, *photos, kind="group")
    view(shared_page, "map")
    engine = LiteRTGroupEngine(sites.litert_file(presets.find("rcau_lite0")), threads=2)
    decoded = [reading.read(photo) for photo in photos]
    features = [engine.encode(resize(each.rgb, engine.size)) for each in decoded]
    state = empty_state(engine)
    for each in features:
        state = engine.advance(each, state)
    assert shared_page.locator("#strip button").count() == len(photos)
    for index, each in enumerate(decoded):
        shared_page.locator("#strip button").nth(index).click()
        shared_page.wait_for_selector(f"#canvas[aria-label='Saliency map of {photos[index].name}']")
        drawn, _ = download(shared_page)
        expected = drawing.to_8_bits(resize_map(engine.decode(features[index], state), each.size))
        assert np.abs(gray(drawn) - expected).mean() <= MAP_TOLERANCE


def test_photos_of_a_group_can_be_shown_alone(shared_page, predictor, photographs):
    choose(shared_page, *photographs[:2], kind="group")
    shared_page.check("#kinds input[value=alone]", force=True)
    shared_page.wait_for_selector("#canvas[data-shown$=' alone']")
    view(shared_page, "map")
    drawn, _ = download(shared_page)
    expected = drawing.to_8_bits(predictor.predict(reading.read(photographs[0])))
    assert np.abs(gray(drawn) - expected).mean() <= MAP_TOLERANCE


def test_a_page_of_a_co_saliency_preset_shows_a_photo_as_a_group_of_one(new_page, serve, tmp_path, photographs):
    preset = presets.find("rcau_lite0")
    sites.write(tmp_path, [(preset, sites.litert_file(preset).read_bytes())])
    new_page.goto(serve(tmp_path).url)
    new_page.wait_for_selector(READY)
    choose(new_page, photographs[0])
    view(new_page, "map")
    drawn, _ = download(new_page)
    engine, decoded = LiteRTGroupEngine(sites.litert_file(preset), threads=2), reading.read(photographs[0])
    features = engine.encode(resize(decoded.rgb, engine.size))
    saliency = engine.decode(features, engine.advance(features, empty_state(engine)))
    expected = drawing.to_8_bits(resize_map(saliency, decoded.size))
    assert np.abs(gray(drawn) - expected).mean() <= MAP_TOLERANCE
    view(new_page, "attention")


def test_files_that_cannot_be_read_are_named_and_the_others_are_shown(shared_page, photographs, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(photographs[0].read_bytes()[:200])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    choose(shared_page, tmp_path / "broken.jpg", tmp_path / "empty.png", tmp_path / "phone.heic", photographs[0])
    shared_page.wait_for_selector("#canvas[data-shown$=' alone']")
    broken, empty, heic = shared_page.locator(FAILED).all_inner_texts()
    assert broken.startswith("broken.jpg: not an image that this browser can read, or a damaged one.")
    assert empty == "empty.png: the file is empty. Copy it again."
    assert heic.startswith("phone.heic: this browser cannot read HEIC photos. Save the photo as JPEG")
    assert shared_page.locator("#errors[role=alert]").count() == 1
    choose(shared_page, photographs[0])
    assert shared_page.locator(FAILED).count() == 0


def test_an_empty_photo_has_no_object(shared_page, tmp_path):
    Image.new("RGB", (300, 200), "gray").save(tmp_path / "nothing.png")
    choose(shared_page, tmp_path / "nothing.png")
    shared_page.wait_for_selector("#message:text-is('No object was found in nothing.png.')")


def test_a_dropped_photo_is_processed(shared_page, photographs):
    transfer = shared_page.evaluate_handle(
        """([name, bytes]) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" }));
          return transfer;
        }""",
        ["dropped.jpg", list(photographs[0].read_bytes())],
    )
    shared_page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    shared_page.wait_for_selector("#canvas[aria-label*='of dropped.jpg']")


def test_a_narrow_window_shows_everything_and_dark_is_respected(shared_page, photographs):
    choose(shared_page, *photographs[:2], kind="group")
    assert shared_page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(250, 249, 252)"
    size = shared_page.viewport_size
    shared_page.set_viewport_size({"width": 320, "height": 640})
    shared_page.emulate_media(color_scheme="dark")
    try:
        assert shared_page.evaluate("document.documentElement.scrollWidth") <= 320
        controls = shared_page.locator("#views label, #kinds label, .buttons button, #canvas, #drop").all()
        assert len(controls) == 5 + 2 + 2 + 1 + 1
        for control in controls:
            box = control.bounding_box()
            assert box["width"] >= 24
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 320
        assert shared_page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 17, 29)"
    finally:
        shared_page.set_viewport_size(size)
        shared_page.emulate_media(color_scheme="light")


def test_the_page_stays_responsive_with_a_photo_of_20_megapixels(shared_page, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (91, 137, 3), np.uint8)
    Image.fromarray(noise).resize((5477, 3652)).save(tmp_path / "large.jpg")
    shared_page.evaluate(
        """() => {
          window.longest = 0;
          let last = performance.now();
          window.watch = setInterval(() => {
            window.longest = Math.max(window.longest, performance.now() - last);
            last = performance.now();
          }, 10);
        }"""
    )
    choose(shared_page, tmp_path / "large.jpg")
    longest = shared_page.evaluate("clearInterval(window.watch); window.longest")
    assert "5477 × 3652 pixels" in shared_page.locator("#caption").inner_text()
    assert longest < 1000


def test_a_browser_without_webassembly_gets_a_message(new_page, url):
    new_page.add_init_script("delete globalThis.WebAssembly")
    new_page.goto(url)
    assert "it lacks WebAssembly. Use a current version" in new_page.locator(FAILED).inner_text()
    assert not new_page.locator("#drop").is_visible()


def test_a_browser_without_relaxed_simd_uses_the_compatible_build(new_page, url, shipped_site, predictor, photographs):
    """LiteRT.js compiles a small module to find out whether the browser has relaxed SIMD."""
    refuse = """
      const instantiate = WebAssembly.instantiate;
      WebAssembly.instantiate = (bytes, ...rest) =>
        bytes.byteLength < 1000 ? Promise.reject(new Error("invalid opcode")) : instantiate(bytes, ...rest);
    """
    worker = refuse + (shipped_site / "worker.js").read_text(encoding="utf-8")
    requests = []
    new_page.on("request", lambda request: requests.append(request.url.rpartition("/")[2]))
    new_page.route("**/worker.js", lambda route: route.fulfill(body=worker, content_type="text/javascript"))
    new_page.goto(url)
    new_page.wait_for_selector(READY)
    assert "litert_wasm_compat_internal.wasm.gz" in requests
    assert "litert_wasm_internal.wasm.gz" not in requests
    choose(new_page, photographs[0])
    view(new_page, "map")
    drawn, _ = download(new_page)
    expected = drawing.to_8_bits(predictor.predict(reading.read(photographs[0])))
    assert np.abs(gray(drawn) - expected).mean() <= MAP_TOLERANCE


def test_a_missing_file_of_the_site_is_reported(new_page, serve, shipped_site, tmp_path):
    broken = shutil.copytree(shipped_site, tmp_path / "site")
    (broken / "models" / "recnet_lite0.tflite").unlink()
    new_page.goto(serve(broken).url)
    new_page.wait_for_selector(FAILED)
    assert "models/recnet_lite0.tflite" in new_page.locator(FAILED).inner_text()
    assert "404" in new_page.locator(FAILED).inner_text()
