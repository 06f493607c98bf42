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

async function send(path, body, signal) {
  let reply;
  try {
    reply = await fetch(path, { method: "POST", body, signal });
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
