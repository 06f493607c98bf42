// Asking about a picture that somebody chose or dropped here, with depth and camera if there are any.

import {
  by, complain, depthView, forgetAnswer, mark, pickWith, pointAt, remember, rgbView, say, setBusy, showAnswer, showPixel,
} from "/page/screen.js";
import { lookAtDepth, refer } from "/page/server.js";
import { summary } from "/page/words.js";

const files = { image: null, depth: null, intrinsics: null };
let isShown = false;
let asking = null;
let measuring = null;

/** Show this mode, with the files that were chosen before. */
export function showPicture() {
  isShown = true;
  pickWith(measure);
  takeImage(files.image);
  takeDepth(files.depth);
  say("rgb-title", "Picture");
  by("rgb-facts").textContent = by("depth-range").textContent = "";
}

export function hidePicture() {
  isShown = false;
  asking?.abort();
  setBusy(false);
}

/** Ask about the chosen picture. */
export async function askPicture(text) {
  if (!files.image) return complain(new Error("Choose a picture first."));
  asking?.abort();
  const mine = (asking = new AbortController());
  setBusy(true);
  say("said", "Asking…");
  try {
    const answer = await refer(text, files, by("unit").value, mine.signal);
    complain(null);
    mark([rgbView, depthView], answer.points);
    showAnswer(answer);
    say("said", summary(answer));
    remember(text, answer);
  } catch (error) {
    if (error.name === "AbortError") return;
    forgetAnswer("No answer.");
    complain(error);
  } finally {
    if (asking === mine) setBusy(false);
  }
}

// --- files ---------------------------------------------------------------------------------------------------

async function takeImage(file) {
  files.image = file;
  if (!isShown) return;
  dropAnswer();
  if (!file) return rgbView.clear("Choose a picture, or drop one here.");
  return rgbView.show(URL.createObjectURL(file), `The picture ${file.name}`);
}

async function takeDepth(file) {
  files.depth = file;
  if (!isShown) return;
  dropAnswer();
  by("depth-figure").hidden = !file;
  if (!file) return;
  const isStill = () => isShown && files.depth === file; // else another was chosen meanwhile
  try {
    const found = await lookAtDepth(files, by("unit").value, { picture: true });
    if (!isStill()) return;
    await depthView.show(`data:image/png;base64,${found.picture_png}`, "The depth map, near is bright");
    by("depth-range").textContent = found.range_m
      ? `${found.range_m[0].toFixed(2)} to ${found.range_m[1].toFixed(2)} m, holes ${(100 * found.hole_share).toFixed(1)} %`
      : "relative: near is bright, no metres";
    complain(null);
  } catch (error) {
    if (!isStill()) return;
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
function dropAnswer() {
  asking?.abort();
  setBusy(false);
  forgetAnswer();
}

// --- measuring a pixel ---------------------------------------------------------------------------------------

async function measure(px) {
  pointAt(px);
  const where = `Pixel ${px.join(", ")}`;
  if (!files.depth) {
    by("probe").textContent = `${where}: no depth given.`;
    return;
  }
  measuring?.abort();
  measuring = new AbortController();
  try {
    const { pixel } = await lookAtDepth(files, by("unit").value, { px }, measuring.signal);
    showPixel(px, pixel);
  } catch (error) {
    if (error.name !== "AbortError") by("probe").textContent = `${where}: ${error.message}`;
  }
}

// --- wiring --------------------------------------------------------------------------------------------------

/** `onFile` is called when a picture is dropped: whoever drops one wants to ask about it. */
export function takeFiles(onFile) {
  by("image").addEventListener("change", (event) => takeImage(event.target.files[0] ?? null));
  by("depth").addEventListener("change", (event) => takeDepth(event.target.files[0] ?? null));
  by("intrinsics").addEventListener("change", (event) => takeIntrinsics(event.target.files[0] ?? null));
  by("unit").addEventListener("change", () => takeDepth(files.depth));
  const view = by("rgb-view");
  view.addEventListener("dragover", (event) => {
    event.preventDefault();
    view.classList.add("over");
  });
  view.addEventListener("dragleave", () => view.classList.remove("over"));
  view.addEventListener("drop", (event) => {
    event.preventDefault();
    view.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    by("image").files = event.dataTransfer.files;
    onFile();
    takeImage(event.dataTransfer.files[0]);
  });
}
