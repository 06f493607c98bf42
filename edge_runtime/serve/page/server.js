// What the page asks of the server. Credentials, if any, are the browser's own (HTTP Basic).

/** The server's state, or "unreachable". */
export async function readState() {
  try {
    const reply = await fetch("/readyz", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    return await reply.json();
  } catch {
    return { ready: false, state: "unreachable" };
  }
}

/** Ask for points. `files` holds image, and perhaps depth and intrinsics (as text). */
export function refer(text, files, unit, signal) {
  const form = new FormData();
  form.append("text", text);
  form.append("images", files.image);
  if (files.depth) form.append("depths", files.depth);
  return send("/v1/refer", withCamera(form, files, unit), signal);
}

/** Look at a depth map: as a picture, or at the pixel `px`. */
export function lookAtDepth(files, unit, { px = null, picture = false }, signal) {
  const form = new FormData();
  form.append("depth", files.depth);
  if (px) form.append("px", JSON.stringify(px));
  if (picture) form.append("picture", "true");
  return send("/v1/depth", withCamera(form, files, unit), signal);
}

function withCamera(form, files, unit) {
  if (files.intrinsics) form.append("intrinsics", files.intrinsics);
  if (unit) form.append("depth_unit_m", unit);
  return form;
}

// --- the live camera -----------------------------------------------------------------------------------------

/** Change what is asked; returns what is asked then. */
export function order(said) {
  return send("/v1/target", JSON.stringify(said), undefined, { "Content-Type": "application/json" });
}

/** What the newest frame shows at a pixel. */
export function measureLive([u, v]) {
  return send(`/v1/pixel?u=${u}&v=${v}`);
}

/** The newest frame: its picture, its number, and the range of its depth. */
export async function takeFrame(of) {
  const reply = await fetch(`/v1/frame.jpg?of=${of}`, { cache: "no-store", signal: AbortSignal.timeout(5000) });
  if (!reply.ok) throw new Error(`HTTP ${reply.status}`);
  const range = reply.headers.get("X-RoboRefer-Depth-Range-M");
  return {
    blob: await reply.blob(),
    frame: Number(reply.headers.get("X-RoboRefer-Frame")),
    range: range ? range.split(" ").map((metres) => Number(metres).toFixed(2)) : null,
  };
}

/** A ticket to the stream. */
export async function takeTicket() {
  const reply = await fetch("/v1/stream/ticket", { method: "POST", signal: AbortSignal.timeout(5000) });
  if (!reply.ok) throw new Error(`HTTP ${reply.status}`);
  return (await reply.json()).ticket;
}

async function send(path, body, signal, headers = {}) {
  let reply;
  try {
    reply = await fetch(path, { method: body === undefined ? "GET" : "POST", body, signal, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached.");
  }
  const said = await reply.json().catch(() => ({ error: `The server answered ${reply.status}.` }));
  if (!reply.ok) throw new Error(sentence(said.error));
  return said;
}

function sentence(text) {
  const words = String(text);
  return words.charAt(0).toUpperCase() + words.slice(1) + (/[.!?]$/.test(words) ? "" : ".");
}
