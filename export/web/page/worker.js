// Decodes photos, runs the networks and draws the results, so that the page never blocks.
//
// A classic worker, since the scripts of LiteRT.js are loaded by importScripts. The page sends
// `{call, method, parameters}`; the worker answers with `{call, result}` or `{call, error}`, and meanwhile reports
// `{call, progress}`.

const MAX_PIXELS = 40e6; // larger photos are reduced, because browsers limit the size of a canvas
const PREVIEW_SIDE = 1280; // longer side of what the page shows; downloads have the size of the photo
const THUMBNAIL_SIDE = 240;
const CACHED = 3; // photos that stay decoded

const modules = Promise.all([import("./images.js"), import("./cutout.js"), import("./litert/litert.js")]);
const networks = {}; // task → promise of a network
const photos = new Map(); // key → photo
let description; // of the site, from site.json
let runtime; // promise of LiteRT.js

/** An error whose message is for the visitor. */
class VisitorError extends Error {}

const methods = {
  /** Load LiteRT.js and the network for the first photo; describe the site. */
  async start(progress) {
    description = await (await download("site.json", { cache: "no-cache" })).json();
    await warmUp(await network(firstTask(), progress));
    return description;
  },

  /** Decode a photo. */
  async open(progress, key, file) {
    const photo = { key, file, maps: {} };
    const { size, original, thumbnail } = await pixels(photo);
    Object.assign(photo, { size, thumbnail });
    await networkInput(photo, (await network(firstTask(), progress)).size); // while the photo is decoded
    photos.set(key, photo);
    return { size, original };
  },

  /** Forget all photos. */
  async clear() {
    photos.clear();
    decoded.clear();
  },

  /** Compute the map of a photo on its own; return whether it shows an object. */
  async alone(progress, key) {
    const photo = photos.get(key);
    await mapAlone(photo, progress);
    return hasObject(photo.maps.alone);
  },

  /** Compute the co-saliency maps of a group: encode each photo, update the state with it, then decode each. Return whether each has an object. */
  async group(progress, keys) {
    const { run, state: shapes, size } = await network("cosaliency", progress);
    const members = keys.map((key) => photos.get(key));
    const features = [];
    let state = Object.fromEntries(shapes.map(([name, length, shape]) => [name, tensor(length, shape)]));
    for (const [index, photo] of members.entries()) {
      progress({ doing: "Reading", photo: index + 1, of: members.length });
      features.push(await run("encode", { image: await networkInput(photo, size) }));
      if (shapes.length) state = await run("step", { ...features[index], ...state });
    }
    for (const [index, photo] of members.entries()) {
      progress({ doing: "Comparing", photo: index + 1, of: members.length });
      const { saliency } = await run("decode", { ...features[index], ...state });
      photo.maps.group = { values: saliency.values, size };
    }
    return members.map((photo) => hasObject(photo.maps.group));
  },

  /** Draw a view of a photo, as an ImageBitmap for the page. */
  async view(progress, key, request) {
    const photo = photos.get(key);
    return createImageBitmap(await draw(photo, (await pixels(photo)).preview, request));
  },

  /** Draw a view of a photo, small. */
  async thumbnail(progress, key, request) {
    const photo = photos.get(key);
    return createImageBitmap(await draw(photo, photo.thumbnail, request));
  },

  /** Draw a view of a photo at full size, as a PNG file. */
  async save(progress, key, request) {
    const photo = photos.get(key);
    const drawn = await draw(photo, await pixels(photo), request);
    const canvas = new OffscreenCanvas(drawn.width, drawn.height);
    canvas.getContext("2d").putImageData(drawn, 0, 0);
    return canvas.convertToBlob({ type: "image/png" });
  },

  /** The most salient point of a photo, [x, y] in fractions of its sides. */
  async peak(progress, key, kind) {
    const { values, size } = photos.get(key).maps[kind];
    const index = values.reduce((best, value, place) => (value > values[best] ? place : best), 0);
    return [((index % size[1]) + 0.5) / size[1], (Math.floor(index / size[1]) + 0.5) / size[0]];
  },
};

onmessage = async ({ data: { call, method, parameters } }) => {
  try {
    const progress = (report) => postMessage({ call, progress: report });
    const result = await methods[method](progress, ...parameters);
    postMessage({ call, result }, result instanceof ImageBitmap ? [result] : []);
  } catch (error) {
    if (!(error instanceof VisitorError)) console.error(error);
    postMessage({ call, error: { message: error.message ?? String(error), expected: error instanceof VisitorError } });
  }
};

// Networks

/** The task of the network for photos on their own. */
const firstTask = () => (description.networks.saliency ? "saliency" : "cosaliency");

async function network(task, progress) {
  networks[task] ??= load(task, progress).catch((error) => {
    delete networks[task]; // so that the visitor can try again
    throw error;
  });
  return networks[task];
}

async function load(task, progress) {
  const [, , litert] = await modules;
  const entry = description.networks[task];
  const wasm = (await litert.supportsFeature("relaxedSimd")) ? "litert_wasm_internal" : "litert_wasm_compat_internal";
  const files = [{ url: `${entry.file}?v=${entry.sha256.slice(0, 12)}`, bytes: entry.bytes }];
  if (!runtime) files.push({ url: `litert/${wasm}.wasm.gz`, bytes: description.runtime[wasm] });
  const total = files.reduce((sum, file) => sum + file.bytes, 0);
  let loaded = 0;
  const contents = await Promise.all(
    files.map((file) =>
      read(file.url, (bytes) => {
        loaded += bytes;
        progress({ doing: "Loading", loaded, total });
      }),
    ),
  );
  progress({ doing: "Starting" });
  runtime ??= startRuntime(litert, wasm, contents[1]).catch((error) => {
    runtime = undefined;
    throw error;
  });
  await runtime;
  const model = await litert.loadAndCompile(contents[0], { accelerator: "wasm" });
  return describe(litert, model, entry);
}

async function startRuntime(litert, wasm, content) {
  // The page computes on the CPU. LiteRT.js would reserve the fastest GPU of the computer anyway.
  Object.defineProperty(navigator, "gpu", { value: { requestAdapter: async () => null }, configurable: true });
  const warn = console.warn;
  console.warn = () => {}; // that there is no GPU
  self.Module = {
    print: () => {},
    printErr: () => {},
    instantiateWasm(imports, done) {
      // Some servers decompress .gz files themselves.
      const stream = new Blob([content]).stream();
      const isCompressed = content[0] === 0x1f && content[1] === 0x8b;
      const plain = isCompressed ? stream.pipeThrough(new DecompressionStream("gzip")) : stream;
      const response = new Response(plain, { headers: { "Content-Type": "application/wasm" } });
      WebAssembly.instantiateStreaming(response, imports).then(({ instance, module }) => done(instance, module), failed);
      return {};
    },
  };
  let failed;
  const failure = new Promise((_, reject) => (failed = reject));
  try {
    await Promise.race([litert.loadLiteRt(new URL(`litert/${wasm}.js`, location.href).href), failure]);
  } finally {
    console.warn = warn;
  }
}

/** A network: `run(signature, inputs)`, and what the page needs to know about its tensors. */
function describe(litert, model, { attention }) {
  const signatures = model.signatures;
  const shapeOf = (details) => Array.from(details.shape);
  const lengthOf = (details) => details.shape.reduce((product, side) => product * side, 1);
  const image = (signatures.encode ?? signatures.serving_default).getInputDetails()[0];
  const step = signatures.step;
  const stateNames = step ? step.getOutputDetails().map(({ name }) => name) : [];
  const state = step
    ? step.getInputDetails().filter(({ name }) => stateNames.includes(name))
    : [];

  async function run(signature, inputs) {
    const tensors = {};
    try {
      for (const { name } of signatures[signature].getInputDetails()) {
        tensors[name] = new litert.Tensor(inputs[name].values, inputs[name].shape);
      }
      const outputs = await signatures[signature].run(tensors);
      const result = {};
      for (const [name, output] of Object.entries(outputs)) {
        result[name] = { values: output.toTypedArray().slice(), shape: Array.from(output.type.layout.dimensions) };
        output.delete();
      }
      return result;
    } finally {
      for (const used of Object.values(tensors)) used.delete();
    }
  }

  return {
    run,
    size: shapeOf(image).slice(1, 3),
    imageSignature: signatures.encode ? "encode" : "serving_default",
    isGroup: Boolean(signatures.encode),
    state: state.map((details) => [details.name, lengthOf(details), shapeOf(details)]),
    attention,
  };
}

/** Compute the map of a black photo twice, because WebAssembly is compiled to fast code while it runs. */
async function warmUp({ size }) {
  for (let time = 0; time < 2; time++) {
    await mapAlone({ maps: {}, input: { size, rgb: new Uint8Array(size[0] * size[1] * 3) } });
  }
}

const tensor = (length, shape) => ({ values: new Float32Array(length), shape });

/** The photo at the size of a network. The last one is kept, because both networks usually have the same size. */
async function networkInput(photo, size) {
  if (String(photo.input?.size) !== String(size)) {
    const [{ resize }] = await modules;
    const { rgba, size: from } = await pixels(photo);
    photo.input = { size, rgb: resize(rgba, from, size) };
  }
  return { values: Float32Array.from(photo.input.rgb), shape: [1, ...size, 3] };
}

async function mapAlone(photo, progress = () => {}) {
  if (photo.maps.alone) return;
  const { run, size, isGroup, imageSignature, state: shapes, attention } = await network(firstTask(), progress);
  const outputs = await run(imageSignature, { image: await networkInput(photo, size) });
  if (attention) {
    photo.attention = {
      foreground: outputs[attention.foreground].values,
      background: outputs[attention.background].values,
      channels: outputs[attention.foreground].shape.at(-1),
      scale: attention.scale,
      size: attention.size,
    };
  }
  let { saliency } = outputs;
  if (isGroup) {
    // a group of one
    let state = Object.fromEntries(shapes.map(([name, length, shape]) => [name, tensor(length, shape)]));
    if (shapes.length) state = await run("step", { ...outputs, ...state });
    ({ saliency } = await run("decode", { ...outputs, ...state }));
  }
  photo.maps.alone = { values: saliency.values, size };
}

const hasObject = ({ values }) => values.some((value) => value >= 0.5);

// Photos

const decoded = new Map(); // key → promise of pixels, the last used one last

function pixels(photo) {
  const found = decoded.get(photo.key) ?? decode(photo.file);
  decoded.delete(photo.key);
  decoded.set(photo.key, found);
  if (decoded.size > CACHED) decoded.delete(decoded.keys().next().value);
  found.catch(() => decoded.delete(photo.key));
  return found;
}

/** The pixels of a file, upright and on white, its own alpha channel, and a smaller copy for the page. */
async function decode(file) {
  const [{ onWhite }] = await modules;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", premultiplyAlpha: "none" });
  } catch {
    throw new VisitorError(await reason(file));
  }
  const original = [bitmap.height, bitmap.width];
  const full = rasterize(bitmap, Math.min(1, Math.sqrt(MAX_PIXELS / (bitmap.width * bitmap.height))));
  const [preview, thumbnail] = [PREVIEW_SIDE, THUMBNAIL_SIDE].map((side) => {
    const scale = side / Math.max(bitmap.width, bitmap.height);
    return scale < 1 ? rasterize(bitmap, scale) : full;
  });
  bitmap.close();
  for (const one of new Set([full, preview, thumbnail])) one.alpha = onWhite(one.rgba);
  return { ...full, preview, thumbnail, original };
}

function rasterize(bitmap, scale) {
  const width = Math.max(1, Math.round(bitmap.width * scale));
  const height = Math.max(1, Math.round(bitmap.height * scale));
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  return { rgba: context.getImageData(0, 0, width, height).data, size: [height, width] };
}

/** Why a file cannot be decoded. */
async function reason(file) {
  if (!file.size) return `${file.name}: the file is empty. Copy it again.`;
  const head = new TextDecoder("latin1").decode(await file.slice(0, 16).arrayBuffer());
  if (/^(heic|heix|heim|heis|hevc|hevx|mif1|msf1)$/.test(head.slice(8, 12)) && head.slice(4, 8) === "ftyp") {
    return (
      `${file.name}: this browser cannot read HEIC photos. Save the photo as JPEG, or open this page in Safari. On an ` +
      `iPhone, Settings → Camera → Formats → Most Compatible takes JPEG photos.`
    );
  }
  return `${file.name}: not an image that this browser can read, or a damaged one. Save it again as JPEG or PNG.`;
}

// Views

async function draw(photo, { rgba, size, alpha }, { view, map: kind, point }) {
  const [{ attentionWeights, drawMap, drawOverlay, enlarge }, { cutout }] = await modules;
  const image = (values) => new ImageData(values, size[1], size[0]);
  if (view === "photo") return image(rgba.slice());
  if (view === "attention") {
    await mapAlone(photo); // of a photo in a group, it may not have been computed yet
    const { foreground, background, scale, channels, size: places } = photo.attention;
    const [x, y] = point.map((part, axis) => Math.min(Math.floor(part * places[1 - axis]), places[1 - axis] - 1));
    const weights = attentionWeights(foreground, background, scale, channels, y * places[1] + x);
    const largest = Math.max(...weights);
    return withRing(image(drawOverlay(rgba, weights.map((weight) => weight / largest), places, size)), point);
  }
  const map = photo.maps[kind];
  if (view === "map") return image(drawMap(map.values, map.size, size));
  if (view === "overlay") return image(drawOverlay(rgba, map.values, map.size, size));
  const mapOfSize = (wanted) => {
    const result = new Float32Array(wanted[0] * wanted[1]);
    enlarge(map.values, map.size, wanted, (row, values) => result.set(values, row * wanted[1]));
    return result;
  };
  return image(cutout(rgba, mapOfSize, size, alpha));
}

function withRing(image, [x, y]) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d");
  context.putImageData(image, 0, 0);
  const radius = Math.max(3, Math.round(Math.max(image.width, image.height) / 60));
  for (const [color, thickness] of [["black", Math.max(3, radius / 2)], ["white", Math.max(1, radius / 4)]]) {
    context.beginPath();
    context.arc(x * image.width, y * image.height, radius, 0, 2 * Math.PI);
    context.strokeStyle = color;
    context.lineWidth = thickness;
    context.stroke();
  }
  return context.getImageData(0, 0, image.width, image.height);
}

// Downloads

async function download(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    throw new VisitorError(`${url} could not be loaded (${error.message}). Check the connection and reload the page.`);
  }
  if (!response.ok) throw new VisitorError(`${url} could not be loaded: ${response.status} ${response.statusText}.`);
  return response;
}

async function read(url, advance) {
  const response = await download(url);
  const chunks = [];
  const reader = response.body.getReader();
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    chunks.push(chunk.value);
    advance(chunk.value.length);
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}
