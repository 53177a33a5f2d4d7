// A canvas for a digit, and the small picture that a model gets of it.

// The width of the pen in pixels of the canvas: small pictures have thick strokes.
const PENS = { 28: 22, 8: 34 };

// Draws with mouse, pen, finger and keyboard; `changed` is called after each stroke.
export class Drawing {
  constructor(canvas, seen, changed) {
    this.canvas = canvas;
    this.seen = seen;
    this.changed = changed;
    this.side = 28;
    this.fits = true;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.at = { x: canvas.width / 2, y: canvas.height / 2 };
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.go(event));
    ["pointerup", "pointercancel"].forEach((kind) => canvas.addEventListener(kind, () => this.lift()));
    canvas.addEventListener("keydown", (event) => this.press(event));
    this.clear();
  }

  clear() {
    this.down = false;
    this.isEmpty = true;
    this.context.fillStyle = "#fff";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.show();
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    return { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
  }

  begin(event) {
    event.preventDefault();
    this.canvas.focus();
    this.canvas.setPointerCapture(event.pointerId);
    this.down = true;
    this.at = this.place(event);
    this.stroke(this.at);
  }

  go(event) {
    if (this.down && event.buttons) this.stroke(this.place(event));
  }

  lift() {
    this.down = false;
  }

  press(event) {
    const [x, y] = { ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8] }[event.key] ?? [0, 0];
    if (event.key === " ") {
      this.down = !this.down;
      if (this.down) this.stroke(this.at);
    } else if (x || y) {
      const clip = (value) => Math.max(0, Math.min(this.canvas.width, value));
      const to = { x: clip(this.at.x + x), y: clip(this.at.y + y) };
      if (this.down) this.stroke(to);
      this.at = to;
    } else {
      return;
    }
    event.preventDefault();
  }

  stroke(to) {
    const pen = this.context;
    pen.lineWidth = PENS[this.side];
    pen.lineCap = pen.lineJoin = "round";
    pen.strokeStyle = "#000";
    pen.beginPath();
    pen.moveTo(this.at.x, this.at.y);
    pen.lineTo(to.x + 0.01, to.y);
    pen.stroke();
    this.at = to;
    this.isEmpty = false;
    this.show();
    this.changed();
  }

  // The part of the canvas with ink; null without any.
  box() {
    const { width, height } = this.canvas;
    const data = this.context.getImageData(0, 0, width, height).data;
    let [left, top, right, bottom] = [width, height, -1, -1];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        if (data[4 * (y * width + x)] > 200) continue;
        left = Math.min(left, x);
        right = Math.max(right, x);
        top = Math.min(top, y);
        bottom = Math.max(bottom, y);
      }
    }
    return right < 0 ? null : { left, top, width: right - left + 1, height: bottom - top + 1 };
  }

  // Draws the small picture.  Digits of MNIST fill 20 of 28 pixels, those of UCI's set all 8 rows.
  show() {
    const side = this.side;
    this.seen.width = this.seen.height = side;
    const small = this.seen.getContext("2d", { willReadFrequently: true });
    small.fillStyle = "#fff";
    small.fillRect(0, 0, side, side);
    small.imageSmoothingEnabled = true;
    small.imageSmoothingQuality = "high";
    const box = this.fits ? this.box() : null;
    if (!box) {
      this.reduce(small, { left: 0, top: 0, width: this.canvas.width, height: this.canvas.height }, 0, 0, side, side);
      return;
    }
    const room = side === 28 ? 20 : side;
    const scale = room / Math.max(box.width, box.height);
    const [width, height] = [box.width * scale, box.height * scale];
    this.reduce(small, box, (side - width) / 2, (side - height) / 2, width, height);
  }

  // Averages the pixels under each small one: a browser's own scaling may skip some.
  reduce(small, box, x, y, width, height) {
    const side = this.side;
    const fine = 8;
    const middle = document.createElement("canvas");
    middle.width = middle.height = side * fine;
    const large = middle.getContext("2d", { willReadFrequently: true });
    large.fillStyle = "#fff";
    large.fillRect(0, 0, middle.width, middle.height);
    large.drawImage(this.canvas, box.left, box.top, box.width, box.height, x * fine, y * fine, width * fine, height * fine);
    const from = large.getImageData(0, 0, middle.width, middle.height).data;
    const to = small.createImageData(side, side);
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < side; column++) {
        let sum = 0;
        for (let i = 0; i < fine * fine; i++) {
          const line = row * fine + Math.floor(i / fine);
          sum += from[4 * (line * middle.width + column * fine + (i % fine))];
        }
        const at = 4 * (row * side + column);
        to.data.fill(sum / fine / fine, at, at + 3);
        to.data[at + 3] = 255;
      }
    }
    small.putImageData(to, 0, 0);
  }

  // The small picture as numbers from 0, no ink, to `most`.
  values(most) {
    const data = this.seen.getContext("2d").getImageData(0, 0, this.side, this.side).data;
    return Array.from({ length: this.side ** 2 }, (_, i) => Math.round((100 * most * (255 - data[4 * i])) / 255) / 100);
  }
}

// `values` in the shape of a model's input, as one row.
export function shaped(values, shape) {
  if (shape.length < 2) return values;
  const size = values.length / shape[0];
  return Array.from({ length: shape[0] }, (_, i) => shaped(values.slice(i * size, (i + 1) * size), shape.slice(1)));
}
