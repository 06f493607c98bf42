// A picture with marks on it and a cursor that mouse, finger and arrow keys move.

const SVG = "http://www.w3.org/2000/svg";
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class View {
  /** `onPick` is called with [u, v] in pixels of the picture. */
  constructor(element, onPick) {
    this.element = element;
    this.onPick = onPick;
    this.cursor = null;
    this.marks = [];
    element.addEventListener("click", (event) => this.pickAt(event));
    element.addEventListener("keydown", (event) => this.onKey(event));
    new ResizeObserver(() => this.draw()).observe(element);
  }

  /** Show a picture, or say that the browser cannot; of two, the one asked for last stays. */
  async show(url, description) {
    const image = new Image();
    image.src = url;
    image.alt = description;
    this.coming = image;
    const canShow = await image.decode().then(() => true, () => false);
    if (this.coming !== image) return;
    if (!canShow) {
      this.clear("This browser cannot show the picture; it can be asked about all the same.");
      return;
    }
    this.image = image;
    this.svg = make("svg", { viewBox: `0 0 ${image.naturalWidth} ${image.naturalHeight}`, "aria-hidden": "true" });
    this.element.replaceChildren(image, this.svg);
    this.cursor = null;
    this.marks = [];
  }

  /** Show the next picture of a video: marks and cursor stay, unless its size is another. */
  async update(blob, description) {
    const url = URL.createObjectURL(blob);
    const image = new Image();
    image.src = url;
    image.alt = description;
    this.coming = image;
    const canShow = await image.decode().then(() => true, () => false);
    URL.revokeObjectURL(url);
    if (!canShow || this.coming !== image) return; // cleared, or another is shown
    const before = this.image;
    const fits = before?.naturalWidth === image.naturalWidth && before?.naturalHeight === image.naturalHeight;
    this.image = image;
    if (fits) {
      before.replaceWith(image);
      return;
    }
    this.svg = make("svg", { viewBox: `0 0 ${image.naturalWidth} ${image.naturalHeight}`, "aria-hidden": "true" });
    this.element.replaceChildren(image, this.svg);
    this.cursor = null;
    this.marks = [];
  }

  clear(words) {
    const note = document.createElement("p");
    note.className = "empty";
    note.textContent = words;
    this.image = null;
    this.coming = null;
    this.element.replaceChildren(note);
  }

  setMarks(marks) {
    this.marks = marks;
    this.draw();
  }

  setCursor(px) {
    this.cursor = px;
    this.draw();
  }

  pickAt(event) {
    if (!this.image) return;
    const box = this.image.getBoundingClientRect();
    this.pick((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  }

  pick(x, y) {
    const { naturalWidth: width, naturalHeight: height } = this.image;
    const px = [clamp(Math.floor(x * width), width), clamp(Math.floor(y * height), height)];
    this.setCursor(px);
    this.onPick(px);
  }

  onKey(event) {
    if (!this.image) return;
    const { naturalWidth: width, naturalHeight: height } = this.image;
    const [u, v] = this.cursor ?? [width >> 1, height >> 1];
    const step = STEPS[event.key];
    if (step) {
      const far = event.shiftKey ? Math.max(8, width >> 5) : 1;
      this.setCursor([clamp(u + far * step[0], width), clamp(v + far * step[1], height)]);
    } else if (event.key === "Enter") {
      this.setCursor([u, v]);
      this.onPick([u, v]);
    } else {
      return;
    }
    event.preventDefault();
  }

  /** Marks keep their size on the screen, whatever the picture's. */
  draw() {
    if (!this.image || !this.image.clientWidth) return;
    const scale = this.image.naturalWidth / this.image.clientWidth;
    const parts = this.marks.flatMap((mark) => drawnMark(mark, scale, this.image.naturalWidth));
    if (this.cursor) parts.push(...drawnCursor(this.cursor, scale));
    this.svg.replaceChildren(...parts);
  }
}

function drawnMark({ px: [u, v], label }, scale, width) {
  const radius = 11 * scale;
  const size = 14 * scale;
  const room = (label.length * 0.55 + 0.8) * size;
  const left = u + radius + 5 * scale + room > width ? u - radius - 5 * scale - room : u + radius + 5 * scale;
  const text = make("text", { class: "label", x: left + 0.4 * size, y: v + 0.35 * size, "font-size": size });
  text.textContent = label;
  return [
    make("circle", { class: "mark rim", cx: u, cy: v, r: radius, "stroke-width": 5 * scale }),
    make("circle", { class: "mark", cx: u, cy: v, r: radius, "stroke-width": 2.5 * scale }),
    make("circle", { class: "mark", cx: u, cy: v, r: 1.5 * scale, "stroke-width": 2 * scale }),
    make("rect", { class: "plate", x: left, y: v - 0.75 * size, width: room, height: 1.5 * size, rx: 0.25 * size }),
    text,
  ];
}

function drawnCursor([u, v], scale) {
  const arm = 9 * scale;
  const gap = 3 * scale;
  const d = `M${u - arm} ${v}H${u - gap}M${u + gap} ${v}H${u + arm}M${u} ${v - arm}V${v - gap}M${u} ${v + gap}V${v + arm}`;
  return [
    make("path", { class: "cursor rim", d, "stroke-width": 4 * scale }),
    make("path", { class: "cursor", d, "stroke-width": 1.8 * scale }),
  ];
}

function make(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function clamp(value, size) {
  return Math.min(Math.max(value, 0), size - 1);
}
