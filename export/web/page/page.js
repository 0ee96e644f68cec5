// The page: chooses photos, shows what the worker draws, and saves it.

const $ = (id) => document.getElementById(id);
const VIEWS = { overlay: "Overlay", cutout: "Cutout", map: "Saliency map", attention: "Attention", photo: "Photo" };
const STEP = 1 / 40; // of the attention's point, for a press of an arrow key

// Worker

let worker;
let calls = 0;
const waiting = new Map(); // call → { resolve, reject, progress }

function ask(method, ...parameters) {
  return askWith(() => {}, method, ...parameters);
}

function askWith(progress, method, ...parameters) {
  return new Promise((resolve, reject) => {
    waiting.set(++calls, { resolve, reject, progress });
    worker.postMessage({ call: calls, method, parameters });
  });
}

function startWorker() {
  worker = new Worker(new URL("worker.js", import.meta.url));
  worker.onmessage = ({ data: { call, result, error, progress } }) => {
    const { resolve, reject, progress: report } = waiting.get(call);
    if (progress) {
      report(progress);
      return;
    }
    waiting.delete(call);
    if (error) reject(Object.assign(new Error(error.message), { expected: error.expected }));
    else resolve(result);
  };
  worker.onerror = (event) => {
    event.preventDefault();
    for (const { reject } of waiting.values()) reject(new Error(event.message ?? "worker.js could not be loaded."));
    waiting.clear();
  };
}

// State

let site; // description of the site, from site.json
let ready; // promise: the network is loaded
let photos = []; // { key, name, size, original, found: kind of a map that is computed → whether it shows an object, point }
let selected = 0;
let kind = "alone";
let view = "overlay";
let nextKey = 0;
let choices = 0; // number of times that photos were chosen; older work stops
let drawings = 0; // number of drawings asked for; only the last one is shown

async function start() {
  startWorker();
  say("Loading …");
  ready = askWith(showProgress, "start");
  ready.catch(() => {});
  connect();
  try {
    site = await ready;
    const { saliency, cosaliency } = site.networks;
    $("about").textContent = `${[saliency, cosaliency].filter(Boolean).map((network) => network.name).join(", ")} · ` +
      `keras_recnet ${site.version}`;
    $("attention").hidden = !(saliency ?? cosaliency).attention;
    if (!photos.length) say("Ready.");
  } catch (error) {
    say("");
    complain(error.message);
  }
}

async function choose(files) {
  files = [...files];
  if (!files.length) return;
  const choice = ++choices;
  drawings++; // what is being drawn is not shown any more
  $("errors").replaceChildren();
  document.body.classList.remove("has-result");
  $("result").hidden = true;
  photos = [];
  selected = 0;
  try {
    await ready;
    await ask("clear");
    for (const [index, file] of files.entries()) {
      say(files.length === 1 ? `Reading ${file.name} …` : `Reading photo ${index + 1} of ${files.length} …`);
      showBar(index, files.length);
      const key = ++nextKey;
      try {
        const opened = await ask("open", key, file);
        if (choice !== choices) return;
        photos.push({ key, name: file.name, found: {}, ...opened });
      } catch (error) {
        if (choice !== choices) return;
        complain(error.expected ? error.message : `${file.name}: ${error.message}`);
      }
    }
    if (!photos.length) {
      say("No photo could be read.");
      return;
    }
    kind = photos.length > 1 && site.networks.cosaliency ? "group" : "alone";
    for (const input of document.getElementsByName("kind")) input.checked = input.value === kind;
    $("kinds").hidden = kind === "alone";
    $("save-all").hidden = $("strip").hidden = photos.length === 1;
    fillStrip();
    await compute(choice);
  } catch (error) {
    if (choice === choices) fail(error);
  }
}

/** Compute the maps of the chosen kind that are still missing, and show the result. */
async function compute(choice = choices) {
  const missing = photos.filter((photo) => !(kind in photo.found));
  if (kind === "group" && missing.length) {
    const found = await askWith(showProgress, "group", photos.map((photo) => photo.key));
    photos.forEach((photo, index) => (photo.found.group = found[index]));
  } else if (kind === "alone") {
    for (const [index, photo] of missing.entries()) {
      if (missing.length > 1) showProgress({ doing: "Computing", photo: index + 1, of: missing.length });
      else say(`Finding the object in ${photo.name} …`);
      const found = await askWith(showProgress, "alone", photo.key);
      if (choice !== choices) return;
      photo.found.alone = found;
    }
  }
  if (choice !== choices) return;
  $("result").hidden = false;
  document.body.classList.add("has-result");
  await show();
  const without = photos.filter((photo) => !photo.found[kind]).map((photo) => photo.name);
  const several = kind === "group" ? `the shared object of ${photos.length} photos` : `the objects in ${photos.length} photos`;
  say(
    without.length
      ? `No object was found in ${without.join(", ")}.`
      : `Found ${photos.length > 1 ? several : `the object in ${photos[0].name}`}.`,
  );
}

/** Draw the current view of the selected photo. */
async function show() {
  const drawing = ++drawings;
  const photo = photos[selected];
  $("stage").classList.add("busy");
  try {
    const request = await requestOf(photo);
    const bitmap = await ask("view", photo.key, request);
    if (drawing !== drawings) return;
    const canvas = $("canvas");
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const place = view === "attention" ? ` from the point ${percent(request.point)}` : "";
    canvas.setAttribute("aria-label", `${VIEWS[view]} of ${photo.name}${place}`);
    canvas.style.setProperty("--width", `${Math.min(2 * bitmap.width, 1280)}px`);
    canvas.style.setProperty("--aspect", bitmap.width / bitmap.height);
    canvas.dataset.shown = `${photo.key} ${view} ${kind}${place}`;
    const [height, width] = photo.original;
    const reduced = photo.size[0] < height ? `, reduced to ${photo.size[1]} × ${photo.size[0]}` : "";
    $("caption").textContent = `${photo.name}, ${width} × ${height} pixels${reduced}`;
    $("hint").textContent = hint();
    canvas.classList.toggle("plain", $("attention").hidden);
    bitmap.close();
    if (view === "attention") say(`Attention${place}.`);
    if (photos.length > 1) await drawThumbnails(drawing);
  } catch (error) {
    if (drawing === drawings) fail(error);
  } finally {
    if (drawing === drawings) $("stage").classList.remove("busy");
  }
}

/** Draw the photos of the strip in the current view, except for attention, which is of a point. */
async function drawThumbnails(drawing) {
  const wanted = view === "attention" ? "overlay" : view;
  for (const [index, photo] of photos.entries()) {
    const canvas = $("strip").querySelectorAll("canvas")[index];
    if (canvas.dataset.shown === `${wanted} ${kind}`) continue;
    const bitmap = await ask("thumbnail", photo.key, { view: wanted, map: kind });
    if (drawing !== drawings) return;
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    canvas.dataset.shown = `${wanted} ${kind}`;
  }
}

async function requestOf(photo) {
  if (view === "attention") photo.point ??= await ask("peak", photo.key, kind);
  return { view, map: kind, point: photo.point };
}

function hint() {
  if ($("attention").hidden) return "";
  return view === "attention"
    ? "Bright: what the network attends to when it decides about the circled point. Click, or use the arrow keys."
    : "Click a point to see what the network attends to.";
}

const percent = ([x, y]) => `${Math.round(x * 100)} % from the left, ${Math.round(y * 100)} % from the top`;

// Messages

function say(text) {
  $("message").textContent = text;
  $("progress").hidden = true;
}

function complain(text) {
  const item = document.createElement("li");
  item.textContent = text;
  $("errors").append(item);
}

function fail(error) {
  say("");
  complain(error.expected ? error.message : `Something went wrong: ${error.message}. Reload the page and try again.`);
}

function showProgress({ doing, loaded, total, photo, of }) {
  if (total) {
    $("message").textContent = `Loading the network: ${megabytes(loaded)} of ${megabytes(total)} MB …`;
    showBar(loaded, total);
  } else if (of) {
    $("message").textContent = `${doing} photo ${photo} of ${of} …`;
    showBar(photo - (doing === "Comparing" ? 0 : 1), of);
  } else {
    say(`${doing} …`);
  }
}

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

function showBar(value, max) {
  Object.assign($("progress"), { hidden: max < 2, max, value: Math.min(value, max) });
}

// Downloads

async function save(photo) {
  const request = await requestOf(photo);
  const blob = await ask("save", photo.key, request);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${photo.name.replace(/\.[^.]*$/, "")}.${view}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function saveAll(chosen) {
  $("save").disabled = $("save-all").disabled = true;
  try {
    for (const [index, photo] of chosen.entries()) {
      say(chosen.length > 1 ? `Writing ${index + 1} of ${chosen.length} …` : `Writing ${photo.name} …`);
      await save(photo);
    }
    say(chosen.length > 1 ? `${chosen.length} files were downloaded.` : "Downloaded.");
  } catch (error) {
    fail(error);
  } finally {
    $("save").disabled = $("save-all").disabled = false;
  }
}

// Controls

function fillStrip() {
  $("strip").replaceChildren(
    ...photos.map((photo, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-label", photo.name);
      button.setAttribute("aria-pressed", String(index === selected));
      const canvas = document.createElement("canvas");
      button.append(canvas);
      button.onclick = () => {
        selected = index;
        [...$("strip").querySelectorAll("button")].forEach((other, place) =>
          other.setAttribute("aria-pressed", String(place === index)),
        );
        show();
      };
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
}

function attend(point) {
  if ($("attention").hidden) return;
  photos[selected].point = point.map((part) => Math.min(Math.max(part, 0), 0.9999));
  view = "attention";
  for (const input of document.getElementsByName("view")) input.checked = input.value === view;
  show();
}

function connect() {
  $("files").onchange = (event) => {
    choose(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  };
  addEventListener("paste", (event) => choose(event.clipboardData.files));
  let inside = 0; // elements of the page that the dragged files are over
  addEventListener("dragenter", () => $("drop").classList.toggle("over", ++inside > 0));
  addEventListener("dragleave", () => $("drop").classList.toggle("over", --inside > 0));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    $("drop").classList.remove("over");
    choose(event.dataTransfer.files);
  });
  for (const input of document.getElementsByName("view")) {
    input.onchange = () => {
      view = input.value;
      show();
    };
  }
  for (const input of document.getElementsByName("kind")) {
    input.onchange = () => {
      kind = input.value;
      compute().catch(fail);
    };
  }
  $("save").onclick = () => saveAll([photos[selected]]);
  $("save-all").onclick = () => saveAll(photos);
  $("canvas").onclick = ({ offsetX, offsetY, target }) => {
    attend([offsetX / target.clientWidth, offsetY / target.clientHeight]);
  };
  $("canvas").onkeydown = (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move || view !== "attention" || !photos[selected].point) return;
    event.preventDefault();
    attend(photos[selected].point.map((part, axis) => part + move[axis] * STEP));
  };
}

// Start

document.body.classList.add("started");

const MISSING = [
  ["WebAssembly", globalThis.WebAssembly],
  ["OffscreenCanvas", globalThis.OffscreenCanvas],
  ["DecompressionStream", globalThis.DecompressionStream],
  ["createImageBitmap", globalThis.createImageBitmap],
].filter(([, value]) => !value);

if (MISSING.length) {
  $("drop").hidden = true;
  say("");
  complain(
    `This browser cannot run the networks: it lacks ${MISSING.map(([name]) => name).join(" and ")}. Use a current ` +
      `version of Chrome, Edge, Firefox or Safari, and do not turn off WebAssembly.`,
  );
} else {
  start();
}
