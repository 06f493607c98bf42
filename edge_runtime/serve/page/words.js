// An answer in words and rows, for eyes and for screen readers.

const REASONS = {
  no_depth: "no depth given",
  relative_depth: "this depth has no scale",
  hole: "the depth has a hole there",
  no_intrinsics: "the camera's intrinsics are not given",
};

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
  if (answer.kind === "text") return answer.answer || "The model wrote nothing.";
  if (!answer.valid) return `No valid answer: ${answer.reason}.`;
  const [first] = answer.points;
  const where = first.camera_m ? `, ${distance(first.camera_m)} away` : "";
  const more = answer.points.length > 1 ? ` ${answer.points.length} points; the first is` : "";
  return `${more || "Point"} at pixel ${first.px.join(", ")}${where}, confidence ${percent(first.confidence)}.`.trim();
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
