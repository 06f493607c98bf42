// Looking through the robot's camera: video, depth, the target in each frame, and what is asked.

import {
  by, complain, depthView, forgetAnswer, mark, pickWith, pointAt, remember, rgbView, say, setBusy, showAnswer, showPixel,
} from "/page/screen.js";
import { measureLive, order, takeFrame } from "/page/server.js";
import { Stream } from "/page/stream.js";
import { found, isLost } from "/page/words.js";

const PAUSE_MS = { rgb: 66, depth: 250 }; // between two pictures; the server has its own limits
const RETRY_MS = 700; // without pictures
const KEPT_TARGETS = 120; // of the frames whose picture may still come

const stream = new Stream(takeLine);
const targets = new Map(); // frame id -> target line
const shownFrame = { rgb: -1, depth: -1 };
let state = null; // newest state line
let before = null; // the one before, for frames a second
let told = ""; // what the sentence of the answer is about
let isShown = false;
let round = 0; // so that video of an earlier showing ends
let onState = () => {};

/** The newest state line; null: no stream. */
export const liveState = () => state;

/** `changed()` is called when the state did. */
export function showLive(changed) {
  isShown = true;
  onState = changed;
  pickWith(measure);
  say("rgb-title", "Live camera");
  by("depth-figure").hidden = false;
  for (const view of [rgbView, depthView]) view.clear("Waiting for the camera…");
  forgetAnswer();
  stream.open();
  round += 1;
  play("rgb", rgbView, round);
  play("depth", depthView, round);
}

export function hideLive() {
  isShown = false;
  round += 1;
  stream.close();
  state = null;
  targets.clear();
  by("asked").hidden = true;
  by("rgb-view").classList.remove("lost");
  by("depth-view").classList.remove("lost");
}

/** Ask this from now on. */
export async function askLive(text) {
  setBusy(true);
  forgetAnswer("Asking…"); // before the order: its answer may come before the order's own reply
  told = "";
  try {
    showAsked(await order({ do: "set", text }));
    complain(null);
  } catch (error) {
    say("said", "Not asked.");
    complain(error);
  } finally {
    setBusy(false);
  }
}

async function stop() {
  try {
    showAsked(await order({ do: "cancel_all" }));
    complain(null);
    by("instruction").focus();
  } catch (error) {
    complain(error);
  }
}

function showAsked({ current, waiting }) {
  by("asked").hidden = !current;
  const more = waiting.length ? ` (${waiting.length} more in turn)` : "";
  say("asked-text", current ? `Pointing at: ${current.text}${more}` : "");
  if (!current && state?.current) forgetAnswer("Stopped.");
}

// --- lines of the stream -------------------------------------------------------------------------------------

function takeLine(line) {
  if (!isShown) return;
  if (line === null) takeState(null);
  else if (line.kind === "state") takeState(line);
  else if (line.kind === "target") takeTarget(line);
  else if (line.kind === "answer") takeAnswer(line);
}

function takeState(line) {
  const wasLost = state && isLost(state);
  const nowLost = line && isLost(line);
  for (const id of ["rgb-view", "depth-view"]) by(id).classList.toggle("lost", Boolean(nowLost || !line));
  if (nowLost || !line) forgetTarget();
  if (nowLost && !wasLost) forgetAnswer("The camera is lost; the robot is looking for it.");
  if (line && !nowLost && wasLost) say("said", "The camera is back.");
  if (line) {
    showRate(line, nowLost);
    if (line.current?.number !== state?.current?.number) forgetTarget();
    showAsked(line);
  }
  state = line;
  onState();
}

function forgetTarget() {
  told = "";
  targets.clear();
  for (const view of [rgbView, depthView]) view.setMarks([]);
}

function showRate(line, nowLost) {
  if (nowLost) {
    by("rgb-facts").textContent = "";
    before = null;
  } else if (!before || line.now_s - before.now_s > 0.9) {
    const hz = before ? (line.frames - before.frames) / (line.now_s - before.now_s) : null;
    by("rgb-facts").textContent = hz === null ? "" : `${hz.toFixed(0)} frames a second`;
    before = line;
  }
}

function takeTarget(line) {
  targets.set(line.frame.id, line);
  if (targets.size > KEPT_TARGETS) targets.delete(targets.keys().next().value);
  const now = `${line.instruction}: ${line.state}`;
  if (told && told !== now && !told.endsWith("answer")) {
    say("said", line.state === "lost" ? "Lost from sight; asking again." : "Found again. Following it.");
  }
  if (told) told = now;
}

function takeAnswer(line) {
  if (state && isLost(state)) return; // about a frame from before
  const firstOfItsKind = !told.startsWith(`${line.instruction}:`);
  showAnswer(line);
  if (firstOfItsKind || !line.valid) say("said", found(line));
  if (firstOfItsKind) remember(line.instruction, line);
  told = `${line.instruction}: answer`;
}

// --- video ---------------------------------------------------------------------------------------------------

async function play(of, view, mine) {
  let pause = RETRY_MS;
  if (!document.hidden) {
    try {
      const shot = await takeFrame(of);
      if (mine !== round) return;
      if (shot.frame !== shownFrame[of] || !view.image) {
        await view.update(shot.blob, of === "rgb" ? "What the camera sees" : "Depth, near is bright");
        shownFrame[of] = shot.frame;
      }
      if (of === "depth" && shot.range) by("depth-range").textContent = `${shot.range.join(" to ")} m`;
      pause = PAUSE_MS[of];
    } catch {
      if (mine === round && !view.image) view.clear("The camera gives no pictures.");
    }
    if (mine !== round) return;
    point(of, view);
  }
  setTimeout(() => play(of, view, mine), pause);
}

/** The target belongs to a frame: draw the one of the frame that is seen, or the newest before it. */
function point(of, view) {
  if (!view.image || !state?.current || isLost(state)) return;
  const ids = [...targets.keys()].filter((id) => id <= shownFrame[of]);
  const target = targets.get(Math.max(...ids));
  mark([view], target?.px ? [target] : []);
}

async function measure(px) {
  pointAt(px);
  try {
    showPixel(px, await measureLive(px));
  } catch (error) {
    by("probe").textContent = `Pixel ${px.join(", ")}: ${error.message}`;
  }
}

by("stop").addEventListener("click", stop);
