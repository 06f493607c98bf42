// An answer in words and rows, for eyes and for screen readers.

const REASONS = {
  no_depth: "no depth given",
  relative_depth: "this depth has no scale",
  hole: "the depth has a hole there",
  no_intrinsics: "the camera's intrinsics are not given",
};

const STALE_MS = 2000;

export function percent(share) {
  return `${Math.round(100 * share)} %`;
}

export function metres(xyz) {
  return `(${xyz.map((value) => (value < 0 ? "−" : "") + Math.abs(value).toFixed(3)).join(", ")}) m`;
}

/** Distance from the camera to a point, not its z alone: what a tape measure would say. */
export function distance(xyz) {
  return `${Math.hypot(...xyz).toFixed(2)} m`;
}

export function why(reason) {
  return REASONS[reason] ?? reason ?? "unknown";
}

export function label(point) {
  return point.camera_m ? `${distance(point.camera_m)} · ${percent(point.confidence)}` : percent(point.confidence);
}

/** One sentence about an answer. */
export function summary(answer) {
  if (answer.kind === "text" || (answer.valid && !answer.points.length)) return answer.answer || "The model wrote nothing.";
  if (!answer.valid) return `No valid answer: ${answer.reason}.`;
  const [first] = answer.points;
  const where = first.camera_m ? `, ${distance(first.camera_m)} away` : "";
  const more = answer.points.length > 1 ? ` ${answer.points.length} points; the first is` : "";
  return `${more || "Point"} at pixel ${first.px.join(", ")}${where}, confidence ${percent(first.confidence)}.`.trim();
}

/** One sentence about a new target of the live camera, without what changes with every frame. */
export function found(answer) {
  if (!answer.valid || !answer.points.length) return summary(answer);
  const [first] = answer.points;
  return `Found${first.camera_m ? `, ${distance(first.camera_m)} away` : ""}. Following it.`;
}

/** Whether the camera gives nothing, or only old frames. */
export function isLost(live) {
  return live.camera !== "delivering" || live.frame_age_ms > STALE_MS;
}

/** The state in a word, and its kind for the colour; `live` is the newest line of the live camera, if it is shown. */
export function stateWords(server, live) {
  if (server.state !== "ready") return { word: server.state, kind: server.state };
  if (live && isLost(live)) return { word: "camera lost", kind: "lost" };
  if (live?.turned_down) return { word: live.turned_down, kind: "hot" };
  return { word: "ready", kind: "ready" };
}

export function tileWords(server, live) {
  if (!server.tile_budget) return "–";
  const now = Math.min(live?.max_tiles ?? server.tile_budget, server.tile_budget);
  return now < server.tile_budget ? `${now} of ${server.tile_budget} per picture` : `${now} per picture`;
}

export function pointRow(point) {
  const row = document.createElement("li");
  const head = document.createElement("strong");
  head.textContent = `pixel ${point.px.join(", ")} · confidence ${percent(point.confidence)}`;
  const place = point.camera_m
    ? `${distance(point.camera_m)} away, camera ${metres(point.camera_m)}`
    : `no metres: ${why(point.depth_reason)}`;
  row.append(head, place);
  if (point.base_m) row.append(`, base ${metres(point.base_m)}`);
  return row;
}

export function timingRows(timings_ms) {
  const { total, ...stages } = timings_ms;
  const rows = Object.entries(stages).map(([stage, ms]) => timingRow(stage.replace("_", " "), ms, total));
  const last = timingRow("total", total, null);
  last.className = "total";
  return [...rows, last];
}

function timingRow(stage, ms, total) {
  const row = document.createElement("tr");
  const name = document.createElement("th");
  name.scope = "row";
  name.textContent = stage;
  const number = document.createElement("td");
  number.className = "ms";
  number.textContent = ms.toFixed(1);
  const cell = document.createElement("td");
  cell.className = "bar";
  if (total) {
    const bar = document.createElement("div");
    bar.style.width = `${Math.min(100, (100 * ms) / total)}%`;
    cell.append(bar);
  }
  row.append(name, number, cell);
  return row;
}
