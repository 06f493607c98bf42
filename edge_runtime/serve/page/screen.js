// What both modes of the page show on: the two views, the answer, complaints, and the list of earlier questions.

import { Past } from "/page/past.js";
import { View } from "/page/view.js";
import { label, metres, pointRow, summary, timingRows, why } from "/page/words.js";

export const by = (id) => document.getElementById(id);

const past = new Past();
let onPick = () => {};
export const rgbView = new View(by("rgb-view"), (px) => onPick(px));
export const depthView = new View(by("depth-view"), (px) => onPick(px));

/** Say who measures a pixel: `measure(px)`. */
export function pickWith(measure) {
  onPick = measure;
}

/** Write only what is new, so that screen readers say it once. */
export function say(id, text) {
  if (by(id).textContent !== text) by(id).textContent = text;
}

export function complain(error) {
  by("problem").textContent = error ? error.message : "";
  by("problem").hidden = !error;
}

export function setBusy(busy) {
  if (busy) by("ask").setAttribute("aria-disabled", "true");
  else by("ask").removeAttribute("aria-disabled");
}

// --- the answer ----------------------------------------------------------------------------------------------

export function mark(views, points) {
  const marks = points.map((point) => ({ px: point.px, label: label(point) }));
  for (const view of views) if (view.image) view.setMarks(marks);
}

/** The rows and times of an answer; the sentence above them is `say("said", ...)`. */
export function showAnswer(answer) {
  by("points").replaceChildren(...answer.points.map(pointRow));
  by("timings").hidden = false;
  by("timings").tBodies[0].replaceChildren(...timingRows(answer.timings_ms));
}

export function forgetAnswer(words = "No question yet.") {
  for (const view of [rgbView, depthView]) view.setMarks([]);
  by("points").replaceChildren();
  by("timings").hidden = true;
  say("said", words);
}

/** What a pixel measures, as `/v1/depth` and `/v1/pixel` tell it. */
export function showPixel(px, pixel) {
  const deep = pixel.depth_m === null ? "no depth" : `${pixel.depth_m.toFixed(3)} m deep`;
  const place = pixel.camera_m ? `camera ${metres(pixel.camera_m)}` : `no 3D place: ${why(pixel.depth_reason)}`;
  const base = pixel.base_m ? `, base ${metres(pixel.base_m)}` : "";
  by("probe").textContent = `Pixel ${px.join(", ")}: ${deep}; ${place}${base}.`;
}

export function pointAt(px) {
  for (const view of [rgbView, depthView]) if (view.image) view.setCursor(px);
}

// --- earlier questions ---------------------------------------------------------------------------------------

export function remember(text, answer) {
  past.add(text, summary(answer));
  showPast();
}

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

by("instruction").addEventListener("keydown", onInstructionKey);
by("forget").addEventListener("click", () => {
  past.clear();
  showPast();
});
showPast();
