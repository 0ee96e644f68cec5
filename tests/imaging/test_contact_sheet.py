import numpy as np

from keras_recnet.imaging.contact_sheet import BACKGROUND, BETWEEN_PAIRS, GAP, LARGEST_CELL, MOST_PIXELS, Sheet

RED = np.full((64, 64, 3), (255, 0, 0), np.uint8)


def test_photo_and_map_are_drawn_in_the_proportions_of_the_photo():
    sheet = Sheet([(100, 200)])
    height = LARGEST_CELL // 2
    assert sheet.pixels.shape == (height + 2 * BETWEEN_PAIRS, 2 * LARGEST_CELL + GAP + 2 * BETWEEN_PAIRS, 3)
    assert (sheet.pixels == BACKGROUND).all()
    sheet.put(0, RED, np.full((100, 200), 0.6, np.float32))
    inside = sheet.pixels[BETWEEN_PAIRS:-BETWEEN_PAIRS, BETWEEN_PAIRS:-BETWEEN_PAIRS]
    assert (inside[:, :LARGEST_CELL] == (255, 0, 0)).all()
    assert (inside[:, LARGEST_CELL : LARGEST_CELL + GAP] == BACKGROUND).all()
    assert (inside[:, LARGEST_CELL + GAP :] == 153).all()


def test_no_two_images_overlap():
    sizes = [(50, 80), (80, 50), (10, 500), (64, 64), (500, 10)]
    sheet = Sheet(sizes)
    area = 0
    for place, size in enumerate(sizes):
        sheet.put(place, RED, np.zeros(size, np.float32))
        red = (sheet.pixels == (255, 0, 0)).all(axis=-1).sum()
        black = (sheet.pixels == 0).all(axis=-1).sum()
        assert red == black > area
        area = red


def test_a_large_group_has_smaller_cells():
    sheet = Sheet([(64, 64)] * 1000)
    assert sheet.pixels.shape[0] * sheet.pixels.shape[1] < 1.3 * MOST_PIXELS
