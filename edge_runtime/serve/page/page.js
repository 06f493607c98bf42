// The page: the robot's camera or a picture of one's own, one question box for both. No library, no build step.

import { askLive, hideLive, liveState, showLive } from "/page/live.js";
import { askPicture, hidePicture, showPicture, takeFiles } from "/page/picture.js";
import { by, complain, say } from "/page/screen.js";
import { readState } from "/page/server.js";
import { followTheme } from "/page/theme.js";
import { stateWords, tileWords } from "/page/words.js";

const POLL_MS = 2000;
let mode = null;
let server = { ready: false, state: "loading" };

async function pollState() {
  if (!document.hidden) {
    server = await readState();
    showState();
    if (server.camera !== undefined) offerCamera(server.camera !== "none");
  }
  setTimeout(pollState, POLL_MS);
}

function showState() {
  const { word, kind } = stateWords(server, mode === "live" ? liveState() : null);
  say("state", word);
  by("state").dataset.state = kind;
  by("bundle").textContent = server.bundle ?? "–";
  by("tiles").textContent = tileWords(server, mode === "live" ? liveState() : null);
  by("line").textContent = server.places ? `${server.in_house} of ${server.places}` : "–";
}

/** Once it is known whether there is a camera, the page begins with it, or without. */
function offerCamera(hasCamera) {
  by("source").hidden = !hasCamera;
  if (mode === null) choose(hasCamera ? "live" : "picture");
}

function choose(wanted) {
  if (wanted === mode) return;
  if (mode === "live") hideLive();
  if (mode === "picture") hidePicture();
  mode = wanted;
  complain(null);
  by(`source-${mode}`).checked = true;
  by("files").hidden = mode !== "picture";
  by("probe").textContent = "Click a pixel to measure there.";
  if (mode === "live") showLive(showState);
  else showPicture();
  showState();
}

function ask(event) {
  event.preventDefault();
  const text = by("instruction").value.trim();
  if (!text) return;
  if (mode === "live") askLive(text);
  else askPicture(text);
}

by("question").addEventListener("submit", ask);
for (const name of ["live", "picture"]) by(`source-${name}`).addEventListener("change", () => choose(name));
takeFiles(() => choose("picture"));
followTheme(by("theme"));
pollState();
