// Questions asked before: kept by the browser where it allows, in order, each once.

const KEY = "roborefer.asked";
const MOST = 30;

export class Past {
  constructor() {
    this.entries = load();
    this.at = -1;
  }

  add(text, answer) {
    this.entries = [{ text, answer }, ...this.entries.filter((entry) => entry.text !== text)].slice(0, MOST);
    this.at = -1;
    this.save();
  }

  clear() {
    this.entries = [];
    this.at = -1;
    this.save();
  }

  /** The entry one step further back (1) or forward (-1); null at the end. */
  step(by) {
    this.at = Math.min(Math.max(this.at + by, -1), this.entries.length - 1);
    return this.entries[this.at] ?? null;
  }

  save() {
    try {
      localStorage.setItem(KEY, JSON.stringify(this.entries));
    } catch {
      // Private windows may refuse; the list lives as long as the page then.
    }
  }
}

function load() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found) ? found.filter((entry) => typeof entry?.text === "string").slice(0, MOST) : [];
  } catch {
    return [];
  }
}
