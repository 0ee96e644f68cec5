// The cutout of keras_recnet.imaging.cutout: guided filtering of the map, and colors without a rim of the background.
// The Python module explains the steps and names the papers. Arrays are planar Float32Arrays in 0…1.

import { places } from "./images.js";

const WORKING_SIDE = 1024;
const STEEPNESS = 3;
const PASSES = 2;
const RADIUS = 1 / 64;
const SMOOTHNESS = 1e-5;
const BAND = 1 / 85;
const SURE = 0.9;
const MARGIN = 0.05;
const BLURS = [1 / 6, 1 / 85];

/**
 * Cut out the salient object.
 *
 * @param {Uint8ClampedArray} rgba the photo.
 * @param {(size: [number, number]) => Float32Array} mapOfSize computes the saliency map of this height and width.
 * @param {[number, number]} size height and width of the photo.
 * @param {Uint8Array | null} ownAlpha the photo's own alpha channel.
 * @returns {Uint8ClampedArray} RGBA, not premultiplied; fully transparent pixels are black.
 */
export function cutout(rgba, mapOfSize, [height, width], ownAlpha) {
  const scale = Math.min(1, WORKING_SIDE / Math.max(height, width));
  const small = [Math.max(1, Math.round(height * scale)), Math.max(1, Math.round(width * scale))];
  const colors = shrink(rgba, [height, width], small);
  const plane = alphaPlane(colors, mapOfSize(small), small);
  const alpha = new Float32Array(small[0] * small[1]);
  alphaOf(colors, plane, alpha);
  const mixed = mixedColors(colors, alpha, small);
  return compose(rgba, [...plane, ...mixed], small, [height, width], ownAlpha);
}

/** The colors of a photo averaged over areas, as three planes. */
function shrink(rgba, [height, width], [toHeight, toWidth]) {
  const columns = areas(width, toWidth);
  const rows = areas(height, toHeight);
  const planes = [0, 1, 2].map(() => new Float32Array(toHeight * toWidth));
  const line = new Float32Array(width * 3);
  for (let row = 0, to = 0; row < toHeight; row++) {
    line.fill(0);
    for (let from = rows.start[row]; from < rows.end[row]; from++) {
      const weight = overlap(rows, row, from) / 255;
      for (let pixel = from * width * 4, index = 0; index < line.length; pixel += 4, index += 3) {
        line[index] += rgba[pixel] * weight;
        line[index + 1] += rgba[pixel + 1] * weight;
        line[index + 2] += rgba[pixel + 2] * weight;
      }
    }
    for (let column = 0; column < toWidth; column++, to++) {
      let [red, green, blue] = [0, 0, 0];
      for (let from = columns.start[column]; from < columns.end[column]; from++) {
        const weight = overlap(columns, column, from);
        red += line[from * 3] * weight;
        green += line[from * 3 + 1] * weight;
        blue += line[from * 3 + 2] * weight;
      }
      planes[0][to] = red;
      planes[1][to] = green;
      planes[2][to] = blue;
    }
  }
  return planes;
}

function areas(length, toLength) {
  const scale = length / toLength;
  const at = (place) => Math.round(place * scale * 1e6) / 1e6; // no sliver of a pixel from rounding
  const start = Int32Array.from({ length: toLength }, (_, place) => Math.floor(at(place)));
  const end = Int32Array.from({ length: toLength }, (_, place) => Math.min(Math.ceil(at(place + 1)), length));
  return { scale, at, start, end };
}

/** The share of the area of `place` that pixel `from` covers. */
function overlap({ scale, at }, place, from) {
  return (Math.min(at(place + 1), from + 1) - Math.max(at(place), from)) / scale;
}

/** The planes of `alphaOf`: three slopes, a constant, and the bounds of alpha. */
function alphaPlane(colors, map, size) {
  const longer = Math.max(...size);
  const radius = Math.max(1, Math.round(longer * BAND));
  const length = map.length;
  const sure = map.map((value) => (value > SURE ? 0 : 1));
  const out = map.map((value) => (value < 1 - SURE ? 0 : 1));
  // A square window contains no such pixel if and only if its mean is 0.
  const lower = boxMean(sure, size, 2 * radius + 1, "inside").map((mean) => (mean === 0 ? 1 : 0));
  const upper = boxMean(out, size, 2 * radius + 1, "inside").map((mean) => (mean === 0 ? 0 : 1));
  const filter = guidedFilter(colors, size, Math.max(1, Math.round(longer * RADIUS)));
  const alpha = map.slice();
  let plane;
  for (let pass = 0; pass < PASSES; pass++) {
    for (let i = 0; i < length; i++) alpha[i] = clip((alpha[i] - 0.5) * STEEPNESS + 0.5);
    plane = [...filter(alpha), lower, upper];
    alphaOf(colors, plane, alpha);
  }
  return plane;
}

/** Guided filter (He et al., Eq. 14–16, color guide): a function from a target to mean slopes and constant. */
function guidedFilter(guide, size, radius) {
  const mean = (plane) => boxMean(plane, size, 2 * radius + 1, "reflect");
  const means = guide.map(mean);
  const covariance = (a, b) => {
    const result = mean(product(guide[a], guide[b]));
    for (let i = 0; i < result.length; i++) result[i] -= means[a][i] * means[b][i];
    return result;
  };
  const [rr, rg, rb, gg, gb, bb] = [covariance(0, 0), covariance(0, 1), covariance(0, 2), covariance(1, 1),
    covariance(1, 2), covariance(2, 2)]; // prettier-ignore
  return (target) => {
    const meanTarget = mean(target);
    const [r, g, b] = guide.map((plane) => mean(product(plane, target)));
    const constant = new Float32Array(target.length);
    for (let i = 0; i < target.length; i++) {
      const x = rr[i] + SMOOTHNESS;
      const y = gg[i] + SMOOTHNESS;
      const z = bb[i] + SMOOTHNESS;
      const xy = rg[i];
      const xz = rb[i];
      const yz = gb[i];
      const cr = r[i] - means[0][i] * meanTarget[i];
      const cg = g[i] - means[1][i] * meanTarget[i];
      const cb = b[i] - means[2][i] * meanTarget[i];
      // The inverse of the symmetric 3×3 matrix, times the covariance.
      const first = y * z - yz * yz;
      const second = yz * xz - xy * z;
      const third = xy * yz - y * xz;
      const determinant = x * first + xy * second + xz * third;
      r[i] = (first * cr + second * cg + third * cb) / determinant;
      g[i] = (second * cr + (x * z - xz * xz) * cg + (xz * xy - x * yz) * cb) / determinant;
      b[i] = (third * cr + (xz * xy - x * yz) * cg + (x * y - xy * xy) * cb) / determinant;
      constant[i] = meanTarget[i] - r[i] * means[0][i] - g[i] * means[1][i] - b[i] * means[2][i];
    }
    return [mean(r), mean(g), mean(b), mean(constant)];
  };
}

function product(a, b) {
  const result = new Float32Array(a.length);
  for (let i = 0; i < a.length; i++) result[i] = a[i] * b[i];
  return result;
}

function alphaOf([red, green, blue], [r, g, b, constant, lower, upper], alpha) {
  for (let i = 0; i < alpha.length; i++) {
    const linear = red[i] * r[i] + green[i] * g[i] + blue[i] * b[i] + constant[i];
    alpha[i] = stretched(linear, lower[i], upper[i]);
  }
}

function stretched(alpha, lower, upper) {
  return clip((clip(Math.min(Math.max(alpha, lower), upper)) - MARGIN) / (1 - 2 * MARGIN));
}

function clip(value) {
  return value < 0 ? 0 : value > 1 ? 1 : value;
}

/** Blur fusion (Forte 2021): the colors of the object and of the background around each pixel, six planes. */
function mixedColors(colors, alpha, size) {
  const inverse = alpha.map((value) => 1 - value);
  let [objects, ground] = [colors, colors];
  let meanObjects, meanGround;
  for (const window of BLURS) {
    const side = Math.max(1, Math.round(Math.max(...size) * window));
    const mean = (weights, planes) => {
      const total = boxMean(weights, size, side, "reflect101");
      return planes.map((plane) => {
        const sum = boxMean(product(plane, weights), size, side, "reflect101");
        for (let i = 0; i < sum.length; i++) sum[i] /= total[i] + 1e-5;
        return sum;
      });
    };
    meanObjects = mean(alpha, objects);
    meanGround = mean(inverse, ground);
    objects = colors.map((plane, channel) => {
      const result = new Float32Array(plane.length);
      for (let i = 0; i < result.length; i++) {
        result[i] = unmixed(plane[i], alpha[i], meanObjects[channel][i], meanGround[channel][i]);
      }
      return result;
    });
    ground = meanGround;
  }
  return [...meanObjects, ...meanGround];
}

function unmixed(color, alpha, object, ground) {
  return clip(object + alpha * (color - alpha * object - (1 - alpha) * ground));
}

/** Enlarge the planes (slopes, constant, bounds, colors of object and ground) and apply them to the photo. */
function compose(rgba, planes, [smallHeight, smallWidth], [height, width], ownAlpha) {
  const columns = places(smallWidth, width);
  const rows = places(smallHeight, height);
  const result = new Uint8ClampedArray(rgba.length);
  const line = planes.map(() => new Float32Array(smallWidth));
  const values = new Float32Array(planes.length);
  for (let row = 0, to = 0; row < height; row++) {
    const [above, below, down] = [rows.first[row] * smallWidth, rows.second[row] * smallWidth, rows.part[row]];
    planes.forEach((plane, index) => {
      const mixed = line[index];
      for (let i = 0; i < smallWidth; i++) mixed[i] = plane[above + i] * (1 - down) + plane[below + i] * down;
    });
    for (let column = 0; column < width; column++, to += 4) {
      const [left, right, part] = [columns.first[column], columns.second[column], columns.part[column]];
      for (let index = 0; index < values.length; index++) {
        const mixed = line[index];
        values[index] = mixed[left] * (1 - part) + mixed[right] * part;
      }
      const [red, green, blue] = [rgba[to] / 255, rgba[to + 1] / 255, rgba[to + 2] / 255];
      const linear = red * values[0] + green * values[1] + blue * values[2] + values[3];
      const alpha = stretched(linear, values[4], values[5]);
      const opacity = Math.round(alpha * (ownAlpha ? ownAlpha[to >> 2] : 255));
      if (opacity === 0) continue;
      result[to] = Math.round(unmixed(red, alpha, values[6], values[9]) * 255);
      result[to + 1] = Math.round(unmixed(green, alpha, values[7], values[10]) * 255);
      result[to + 2] = Math.round(unmixed(blue, alpha, values[8], values[11]) * 255);
      result[to + 3] = opacity;
    }
  }
  return result;
}

/**
 * The mean over a square window around each pixel.
 *
 * @param {Float32Array} plane
 * @param {[number, number]} size height and width.
 * @param {number} side of the window; an even window has its center at `side / 2`.
 * @param {"reflect" | "reflect101" | "inside"} border how the plane continues outside: `cba|abc` (reflect), `dcb|abcd`
 *   (reflect101), or with zeros, divided by the whole window (inside).
 */
export function boxMean(plane, [height, width], side, border) {
  const before = side >> 1;
  const wide = new Float32Array(plane.length);
  const columns = sources(width, side, before, border);
  for (let row = 0, start = 0; row < height; row++, start += width) {
    let sum = 0;
    for (let i = 0; i < side - 1; i++) if (columns[i] >= 0) sum += plane[start + columns[i]];
    for (let column = 0; column < width; column++) {
      const entering = columns[column + side - 1];
      if (entering >= 0) sum += plane[start + entering];
      wide[start + column] = sum / side;
      const leaving = columns[column];
      if (leaving >= 0) sum -= plane[start + leaving];
    }
  }
  // All columns at once, row by row: sums of columns, which stay in the cache.
  const result = new Float32Array(plane.length);
  const rows = sources(height, side, before, border);
  const sums = new Float64Array(width);
  const add = (row, sign) => {
    if (row < 0) return;
    for (let column = 0, from = row * width; column < width; column++, from++) sums[column] += sign * wide[from];
  };
  for (let i = 0; i < side - 1; i++) add(rows[i], 1);
  for (let row = 0, to = 0; row < height; row++) {
    add(rows[row + side - 1], 1);
    for (let column = 0; column < width; column++) result[to++] = sums[column] / side;
    add(rows[row], -1);
  }
  return result;
}

/** The source of each place `-before … length + side - before - 2`; -1 for zeros. */
function sources(length, side, before, border) {
  return Int32Array.from({ length: length + side - 1 }, (_, index) => {
    let place = index - before;
    if (border === "inside") return place >= 0 && place < length ? place : -1;
    const shift = border === "reflect" ? 1 : 0;
    while (length > 1 && (place < 0 || place >= length)) {
      place = place < 0 ? -place - shift : 2 * length - 2 + shift - place;
    }
    return length === 1 ? 0 : place;
  });
}
