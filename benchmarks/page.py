"""Speed and download size of the page of `keras-recnet web` in headless Chromium: python benchmarks/page.py

Measures the time from the choice of a photo until its map is drawn over the photo, first for a 12-megapixel photo, then
for a 1-megapixel photo and for a group of three photos; and the bytes that the page downloads. Each visit is a new
browser profile, without a cache. Needs Playwright and Chromium.
"""

import argparse
import shutil
import tempfile
import threading
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from keras_recnet.export.web.server import Server
from keras_recnet.export.web.site import write_shipped

PHOTO = Path(__file__).parents[1] / "examples" / "photos" / "astronaut.jpg"
SIZES = {"12 megapixels": (4000, 3000), "1 megapixel": (1155, 866)}


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visits", type=int, default=5, help="the best time of these visits is printed")
    arguments = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        site, photos = Path(folder) / "site", {}
        site.mkdir()
        write_shipped(site)
        for name, size in SIZES.items():
            photos[name] = Path(folder) / f"{size[0]}.jpg"
            Image.open(PHOTO).resize(size, Image.Resampling.BICUBIC).save(photos[name], quality=90)
        server = Server(site)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        launched = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        visits = [visit(launched, server.url, photos) for _ in range(arguments.visits)]
        launched.close()
        server.shutdown()
    for name in visits[0]:
        values = sorted(each[name] for each in visits)
        unit = "MB" if name.startswith("download") else "s"
        print(f"{name:<36}{values[0]:8.2f} {unit}   (median {values[len(values) // 2]:.2f})")


def visit(browser, url, photos):
    """Open the page in a new profile: name of a measurement → seconds or megabytes."""
    page = browser.new_page(accept_downloads=True)
    received = []
    page.on("requestfinished", lambda request: received.append(request.sizes()["responseBodySize"]))
    results, start = {}, time.perf_counter()
    page.goto(url)
    page.wait_for_selector("#message:text-is('Ready.')")
    results["ready"] = time.perf_counter() - start
    for index, (name, photo) in enumerate(photos.items()):
        results[f"map of {name}"] = seconds(page, [photo], f"#canvas[data-shown='{index + 1} overlay alone']")
    results["download for a photo"] = sum(received) / 1e6
    group = [photos["1 megapixel"]] * 3  # chosen as keys 3, 4 and 5, then 6, 7 and 8
    results["group of 3, with its network"] = seconds(page, group, "#canvas[data-shown='3 overlay group']")
    results["group of 3, again"] = seconds(page, group, "#canvas[data-shown='6 overlay group']")
    results["download for photos and groups"] = sum(received) / 1e6
    page.close()
    return results


def seconds(page, photos, shown):
    """Choose photos, and return the time until the page shows the result."""
    start = time.perf_counter()
    page.set_input_files("#files", [str(photo) for photo in photos])
    page.wait_for_selector(shown)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
