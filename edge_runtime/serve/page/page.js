// The page: puts files, question, pictures and answer together. No library, no build step.

import { lookAtDepth, readState, refer } from "/page/server.js";
import { Past } from "/page/past.js";
import { followTheme } from "/page/theme.js";
import { View } from "/page/view.js";
import { label, metres, pointRow, summary, timingRows, why } from "/page/words.js";

const POLL_MS = 2000;
const by = (id) => document.getElementById(id);

const files = { image: null, depth: null, intrinsics: null };
const past = new Past();
const rgbView = new View(by("rgb-view"), measure);
const depthView = new View(by("depth-view"), measure);
let asking = null;
let measuring = null;

// --- state ---------------------------------------------------------------------------------------------------

async function showState() {
  if (!document.hidden) {
    const state = await readState();
    const pill = by("state");
    if (pill.textContent !== state.state) pill.textContent = state.state;
    pill.dataset.state = state.state;
    by("bundle").textContent = state.bundle ?? "–";
    by("tiles").textContent = state.tile_budget ? `${state.tile_budget} per picture` : "–";
    by("line").textContent = state.places ? `${state.in_house} of ${state.places}` : "–";
  }
  setTimeout(showState, POLL_MS);
}

function complain(error) {
  const problem = by("problem");
  problem.textContent = error ? error.message : "";
  problem.hidden = !error;
}

// --- files ---------------------------------------------------------------------------------------------------

async function takeImage(file) {
  files.image = file;
  forgetAnswer();
  if (!file) return rgbView.clear("Choose a picture, or drop one here.");
  return rgbView.show(URL.createObjectURL(file), `The picture ${file.name}`);
}

async function takeDepth(file) {
  files.depth = file;
  forgetAnswer();
  by("depth-figure").hidden = !file;
  if (!file) return;
  try {
    const found = await lookAtDepth(files, by("unit").value, { picture: true });
    if (files.depth !== file) return; // another was chosen meanwhile
    await depthView.show(`data:image/png;base64,${found.picture_png}`, "The depth map, near is bright");
    by("depth-range").textContent = found.range_m
      ? `${found.range_m[0].toFixed(2)} to ${found.range_m[1].toFixed(2)} m, holes ${(100 * found.hole_share).toFixed(1)} %`
      : "relative: near is bright, no metres";
    complain(null);
  } catch (error) {
    if (files.depth !== file) return;
    by("depth-figure").hidden = true;
    files.depth = null;
    by("depth").value = "";
    complain(error);
  }
}

async function takeIntrinsics(file) {
  files.intrinsics = null;
  if (!file) return;
  try {
    const read = JSON.parse(await file.text());
    files.intrinsics = JSON.stringify(read.rgb ?? read);
    complain(null);
  } catch {
    complain(new Error("That file is not JSON."));
  }
}

/** Nothing of an earlier question may stand beside other files, nor an answer that is still on its way. */
function forgetAnswer() {
  asking?.abort();
  for (const view of [rgbView, depthView]) view.setMarks([]);
  by("points").replaceChildren();
  by("timings").hidden = true;
  by("said").textContent = "No question yet.";
}

// --- asking --------------------------------------------------------------------------------------------------

async function ask(event) {
  event?.preventDefault();
  const text = by("instruction").value.trim();
  if (!text) return;
  if (!files.image) return complain(new Error("Choose a picture first."));
  asking?.abort();
  const mine = (asking = new AbortController());
  by("ask").setAttribute("aria-disabled", "true");
  by("said").textContent = "Asking…";
  try {
    const answer = await refer(text, files, by("unit").value, mine.signal);
    complain(null);
    showAnswer(answer);
    past.add(text, summary(answer));
    showPast();
  } catch (error) {
    if (error.name === "AbortError") return;
    forgetAnswer();
    by("said").textContent = "No answer.";
    complain(error);
  } finally {
    if (asking === mine) by("ask").removeAttribute("aria-disabled");
  }
}

function showAnswer(answer) {
  const marks = answer.points.map((point) => ({ px: point.px, label: label(point) }));
  rgbView.setMarks(marks);
  if (files.depth) depthView.setMarks(marks);
  by("said").textContent = summary(answer);
  by("points").replaceChildren(...answer.points.map(pointRow));
  by("timings").hidden = false;
  by("timings").tBodies[0].replaceChildren(...timingRows(answer.timings_ms));
}

// --- measuring a pixel ---------------------------------------------------------------------------------------

async function measure(px) {
  for (const view of [rgbView, depthView]) if (view.image) view.setCursor(px);
  const where = `Pixel ${px.join(", ")}`;
  if (!files.depth) {
    by("probe").textContent = `${where}: no depth given.`;
    return;
  }
  measuring?.abort();
  measuring = new AbortController();
  try {
    const { pixel } = await lookAtDepth(files, by("unit").value, { px }, measuring.signal);
    const deep = pixel.depth_m === null ? "no depth" : `${pixel.depth_m.toFixed(3)} m deep`;
    const place = pixel.camera_m ? `camera ${metres(pixel.camera_m)}` : `no 3D place: ${why(pixel.depth_reason)}`;
    by("probe").textContent = `${where}: ${deep}; ${place}.`;
  } catch (error) {
    if (error.name !== "AbortError") by("probe").textContent = `${where}: ${error.message}`;
  }
}

// --- history -------------------------------------------------------------------------------------------------

function showPast() {
  by("history").replaceChildren(...past.entries.map(pastRow));
  by("forget").hidden = past.entries.length === 0;
}

function pastRow({ text, answer }) {
  const row = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  const told = document.createElement("small");
  told.textContent = answer ?? "";
  button.append(text, told);
  button.addEventListener("click", () => {
    by("instruction").value = text;
    by("instruction").focus();
  });
  row.append(button);
  return row;
}

function onInstructionKey(event) {
  if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
  event.preventDefault();
  const entry = past.step(event.key === "ArrowUp" ? 1 : -1);
  event.target.value = entry ? entry.text : "";
}

// --- wiring --------------------------------------------------------------------------------------------------

function onDrop(view, take, input) {
  view.addEventListener("dragover", (event) => {
    event.preventDefault();
    view.classList.add("over");
  });
  view.addEventListener("dragleave", () => view.classList.remove("over"));
  view.addEventListener("drop", (event) => {
    event.preventDefault();
    view.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    take(input.files[0]);
  });
}

by("question").addEventListener("submit", ask);
by("instruction").addEventListener("keydown", onInstructionKey);
by("image").addEventListener("change", (event) => takeImage(event.target.files[0] ?? null));
by("depth").addEventListener("change", (event) => takeDepth(event.target.files[0] ?? null));
by("intrinsics").addEventListener("change", (event) => takeIntrinsics(event.target.files[0] ?? null));
by("unit").addEventListener("change", () => takeDepth(files.depth));
by("forget").addEventListener("click", () => {
  past.clear();
  showPast();
});
onDrop(by("rgb-view"), takeImage, by("image"));
followTheme(by("theme"));
showPast();
showState();
