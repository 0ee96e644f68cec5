// Resizing and drawing, equal to keras_recnet.imaging. Images are RGBA bytes, maps are Float32Arrays in 0…1.

/** The "inferno" colormap of OpenCV: 256 RGB triples. */
const INFERNO = Uint8Array.from(
  atob(
    "AAAEAQAFAQEGAQEIAgEKAgIMAgIOAwIQBAMSBAMUBQQXBgQZBwUbCAUdCQYfCgciCwckDAgmDQgpDgkrEAktEQowEgoyFAs0FQs3Fgs5GAw8" +
      "GQw+GwxBHAxDHgxFHwxIIQxKIwxMJAxPJgxRKAtTKQtVKwtXLQtZLwpbMQpcMgpeNApfNglhOAliOQljOwlkPQllPglmQApnQgpoRApoRQpp" +
      "RwtqSQtqSgxrTAxrTQ1sTw1sUQ5sUg5tVA9tVQ9tVxBuWRBuWhFuXBJuXRJuXxNuYRNuYhRuZBVuZRVuZxZuaRZuahdubBhubRhubxlucRlu" +
      "chpudBpudRtudxxteBxteh1tfB1tfR5tfx5sgB9sgiBshCBrhSFrhyFriCJqiiJqjCNpjSNpjyRpkCVokiVokyZnlSZnlydmmCdmmihlmylk" +
      "nSlknypjoCpjoitioyxhpSxgpi1gqC5fqS5eqy9erTBdrjBcsDFbsTJaszJatDNZtjRYtzVXuTVWujZVvDdUvThTvzlSwDpRwTpQwztPxDxO" +
      "xj1Nxz5MyD9LykBKy0FJzEJIzkNHz0RG0EVF0kZE00dD1EhC1UpB10s/2Ew+2U092k4821A73VE63lI431M34FU24VY14lc041kz5Fox5Vww" +
      "5l0v514u6GAt6WEr6mMq62Qp62Yo7Gcm7Wkl7mok72wj724h8G8g8XEf8XMd8nQc83Yb83gZ9HkY9XsX9X0V9n4U9oAT94IS94QQ+IUP+IcO" +
      "+IkM+YsL+YwK+Y4J+pAI+pIH+pQH+5YG+5cG+5kG+5sG+50H/J8H/KEI/KMJ/KUK/KYM/KgN/KoP/KwR/K4S/LAU/LIW/LQY+7Ya+7gd+7of" +
      "+7wh+74j+sAm+sIo+sQq+sYt+ccv+cky+cs1+M03+M8699E999NA9tVD9tdG9dlJ9dtM9N1P9N9T9OFW8+Na8+Vd8uZh8uhl8upp8ext8e1x" +
      "8e918fF58vJ98vSC8/WG8/aK9PiO9fmS9vqW+Pua+fyd+v2h/P+k",
  ),
  (character) => character.charCodeAt(0),
);

/**
 * Resize an image as Pillow's `BILINEAR` does: a triangle filter that is widened to avoid aliasing when shrinking.
 *
 * @param {Uint8ClampedArray} rgba the pixels, without transparency.
 * @param {[number, number]} from height and width.
 * @param {[number, number]} to height and width of the result.
 * @returns {Uint8Array} RGB bytes.
 */
export function resize(rgba, [height, width], [toHeight, toWidth]) {
  const wide = resample(rgba, { lines: height, lineStep: width * 4, pixelStep: 4 }, triangles(width, toWidth), toWidth);
  // The columns of the intermediate image are the lines of the second pass, which writes each of them as a row.
  const tall = resample(wide, { lines: toWidth, lineStep: 3, pixelStep: toWidth * 3 }, triangles(height, toHeight), toHeight);
  return transpose(tall, toWidth, toHeight);
}

const BITS = 22; // of Pillow's fixed-point weights

function triangles(length, toLength) {
  const scale = length / toLength;
  const reach = Math.max(scale, 1);
  const taps = Math.ceil(reach) * 2 + 1;
  const starts = new Int32Array(toLength);
  const counts = new Int32Array(toLength);
  const weights = new Int32Array(toLength * taps);
  for (let place = 0; place < toLength; place++) {
    const center = (place + 0.5) * scale;
    const start = Math.max(Math.trunc(center - reach + 0.5), 0);
    const count = Math.min(Math.trunc(center + reach + 0.5), length) - start;
    const exact = [];
    for (let tap = 0; tap < count; tap++) {
      exact.push(Math.max(1 - Math.abs((tap + start - center + 0.5) / reach), 0));
    }
    const sum = exact.reduce((total, weight) => total + weight, 0);
    starts[place] = start;
    counts[place] = count;
    exact.forEach((weight, tap) => (weights[place * taps + tap] = Math.trunc((weight / sum) * (1 << BITS) + 0.5)));
  }
  return { starts, counts, weights, taps };
}

function resample(pixels, { lines, lineStep, pixelStep }, { starts, counts, weights, taps }, toLength) {
  const result = new Uint8ClampedArray(lines * toLength * 3);
  let out = 0;
  for (let line = 0; line < lines; line++) {
    for (let place = 0; place < toLength; place++) {
      let red = 1 << (BITS - 1);
      let green = red;
      let blue = red;
      let from = line * lineStep + starts[place] * pixelStep;
      const first = place * taps;
      for (let tap = first; tap < first + counts[place]; tap++) {
        const weight = weights[tap];
        red = (red + pixels[from] * weight) | 0;
        green = (green + pixels[from + 1] * weight) | 0;
        blue = (blue + pixels[from + 2] * weight) | 0;
        from += pixelStep;
      }
      result[out++] = red >> BITS;
      result[out++] = green >> BITS;
      result[out++] = blue >> BITS;
    }
  }
  return result;
}

function transpose(pixels, rows, columns) {
  const result = new Uint8Array(pixels.length);
  for (let row = 0, from = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      let to = (column * rows + row) * 3;
      result[to++] = pixels[from++];
      result[to++] = pixels[from++];
      result[to] = pixels[from++];
    }
  }
  return result;
}

/**
 * Enlarge a map bilinearly, row by row.
 *
 * @param {Float32Array} map the values, row by row.
 * @param {[number, number]} from height and width of the map.
 * @param {[number, number]} to height and width of the result.
 * @param {(row: number, values: Float32Array) => void} use called with each row; the array is reused.
 */
export function enlarge(map, [height, width], [toHeight, toWidth], use) {
  const columns = places(width, toWidth);
  const rows = places(height, toHeight);
  const values = new Float32Array(toWidth);
  for (let row = 0; row < toHeight; row++) {
    const above = rows.first[row] * width;
    const below = rows.second[row] * width;
    const down = rows.part[row];
    for (let column = 0; column < toWidth; column++) {
      const left = columns.first[column];
      const right = columns.second[column];
      const part = columns.part[column];
      const top = map[above + left] * (1 - part) + map[above + right] * part;
      const bottom = map[below + left] * (1 - part) + map[below + right] * part;
      values[column] = top * (1 - down) + bottom * down;
    }
    use(row, values);
  }
}

/** The two source pixels of each pixel of an enlarged line, and the weight of the second one. */
export function places(length, toLength) {
  const first = new Int32Array(toLength);
  const second = new Int32Array(toLength);
  const part = new Float32Array(toLength);
  for (let place = 0; place < toLength; place++) {
    const exact = Math.min(Math.max(((place + 0.5) * length) / toLength - 0.5, 0), length - 1);
    first[place] = Math.floor(exact);
    second[place] = Math.min(first[place] + 1, length - 1);
    part[place] = exact - first[place];
  }
  return { first, second, part };
}

/** Put an image with transparency on white, in place; return its alpha channel, or null if it has none. */
export function onWhite(rgba) {
  let transparent = false;
  for (let index = 3; index < rgba.length && !transparent; index += 4) transparent = rgba[index] < 255;
  if (!transparent) return null;
  const alpha = new Uint8Array(rgba.length / 4);
  for (let pixel = 0, index = 0; pixel < alpha.length; pixel++, index += 4) {
    const own = rgba[index + 3];
    alpha[pixel] = own;
    for (let channel = index; channel < index + 3; channel++) {
      rgba[channel] = Math.round((rgba[channel] * own + 255 * (255 - own)) / 255);
    }
    rgba[index + 3] = 255;
  }
  return alpha;
}

/** Draw a map in gray. */
export function drawMap(map, mapSize, size) {
  const [height, width] = size;
  const drawn = new Uint8ClampedArray(height * width * 4);
  let to = 0;
  enlarge(map, mapSize, size, (row, values) => {
    for (const value of values) {
      drawn[to] = drawn[to + 1] = drawn[to + 2] = Math.round(value * 255);
      drawn[to + 3] = 255;
      to += 4;
    }
  });
  return drawn;
}

/** Blend a photo and a heatmap of a map in equal parts. */
export function drawOverlay(rgba, map, mapSize, size) {
  const drawn = new Uint8ClampedArray(rgba.length);
  let to = 0;
  enlarge(map, mapSize, size, (row, values) => {
    for (const value of values) {
      const color = Math.round(value * 255) * 3;
      drawn[to] = (rgba[to] + INFERNO[color] + 1) >> 1;
      drawn[to + 1] = (rgba[to + 1] + INFERNO[color + 1] + 1) >> 1;
      drawn[to + 2] = (rgba[to + 2] + INFERNO[color + 2] + 1) >> 1;
      drawn[to + 3] = 255;
      to += 4;
    }
  });
  return drawn;
}

/**
 * The weights of the background positions for a position of the foreground branch (RecNet paper, Eq. 1 and 3).
 *
 * @param {Float32Array} foreground keys of the foreground branch, `positions × channels`.
 * @param {Float32Array} background keys of the background branch, `positions × channels`.
 * @param {number} scale factor of the scores.
 * @param {number} channels
 * @param {number} position index of the foreground position.
 * @returns {Float32Array} one weight per position; their sum is 1.
 */
export function attentionWeights(foreground, background, scale, channels, position) {
  const weights = new Float32Array(background.length / channels);
  const own = foreground.subarray(position * channels, (position + 1) * channels);
  let largest = -Infinity;
  for (let other = 0, from = 0; other < weights.length; other++) {
    let score = 0;
    for (let channel = 0; channel < channels; channel++) score += own[channel] * background[from++];
    weights[other] = score * scale;
    largest = Math.max(largest, weights[other]);
  }
  let sum = 0;
  for (let other = 0; other < weights.length; other++) {
    weights[other] = Math.exp(weights[other] - largest);
    sum += weights[other];
  }
  return weights.map((weight) => weight / sum);
}
