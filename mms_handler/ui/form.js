// The form: what it sends for the model that is chosen.

import { Drawing, shaped } from "./drawing.js";
import { asCsv, compact, inputsOf, sampleValue, sideOf, zeros } from "./shapes.js";
import { Tabs } from "./tabs.js";

const get = (id) => document.getElementById(id);

function largest(value) {
  return Array.isArray(value) ? value.reduce((most, each) => Math.max(most, largest(each)), 0) : Number(value) || 0;
}

// How a model writes ink, judging by its sample.
function inkOf(version, side) {
  const most = largest(sampleValue(version));
  if (most > 16) return "255";
  return most > 1 || (most === 0 && side === 8) ? "16" : "1";
}

function described(inputs) {
  const texts = inputs.map(({ name, shape }) => `${name ? `${name} ` : ""}(${shape.join(", ")})`);
  return texts.length ? `Input${texts.length > 1 ? "s" : ""}: ${texts.join(", ")}` : "";
}

// `changed` is called whenever what would be sent changes.
export class Form {
  constructor(changed) {
    this.changed = changed;
    this.inputs = [];
    this.picture = null;
    this.drawing = new Drawing(get("canvas"), get("seen"), () => this.changed());
    this.tabs = new Tabs(get("tab-json").parentElement, () => this.changed());
    get("json").addEventListener("input", () => this.edited());
    ["csv", "accept", "ink"].forEach((id) => get(id).addEventListener("input", () => this.changed()));
    get("centre").addEventListener("change", (event) => {
      this.drawing.fits = event.target.checked;
      this.drawing.show();
      this.changed();
    });
    get("clear").addEventListener("click", () => {
      this.drawing.clear();
      this.changed();
    });
    this.listenForPictures(get("drop"));
  }

  listenForPictures(drop) {
    ["file", "camera"].forEach((id) => get(id).addEventListener("change", (event) => this.take(event.target.files[0])));
    ["dragenter", "dragover"].forEach((kind) =>
      drop.addEventListener(kind, (event) => {
        event.preventDefault();
        drop.classList.add("over");
      }),
    );
    ["dragleave", "drop"].forEach((kind) => drop.addEventListener(kind, () => drop.classList.remove("over")));
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      this.take(event.dataTransfer.files[0]);
    });
  }

  take(file) {
    if (!file) return;
    this.picture = file;
    const preview = get("preview");
    if (preview.src) URL.revokeObjectURL(preview.src);
    preview.src = URL.createObjectURL(file);
    preview.alt = `The picture ${file.name}`;
    preview.hidden = false;
    get("picture-name").textContent = `${file.name}, ${file.type || "unknown type"}, ${Math.ceil(file.size / 1024)} kB`;
    this.changed();
  }

  // Fills the form for a version of a model.
  fill(version) {
    this.version = version;
    this.inputs = inputsOf(version);
    get("inputs").textContent = described(this.inputs);
    const value = sampleValue(version);
    const sample = version.sample;
    const isCsv = sample?.contentType === "text/csv";
    get("json").value = value !== undefined ? compact(value) : isCsv ? "" : zeros(this.inputs);
    get("csv").value = isCsv ? (sample.text ?? "") : asCsv(value);
    const side = sideOf(this.inputs);
    this.drawing.side = side || 28;
    this.drawing.show();
    get("ink").value = inkOf(version, side);
    get("reset").hidden = !sample;
    this.tabs.offer(["tab-json", "tab-csv", "tab-picture", ...(side ? ["tab-draw"] : [])]);
    this.tabs.choose(this.startsWith(sample));
    this.edited();
  }

  startsWith(sample) {
    if (sample?.contentType === "text/csv") return "tab-csv";
    if (/^image\/|x-image/.test(sample?.contentType ?? "")) {
      if (sample.base64) {
        const bytes = Uint8Array.from(atob(sample.base64), (c) => c.charCodeAt(0));
        this.take(new File([bytes], "sample", { type: sample.contentType }));
      }
      return "tab-picture";
    }
    return "tab-json";
  }

  edited() {
    let problem = "";
    try {
      if (get("json").value.trim()) JSON.parse(get("json").value);
    } catch (error) {
      problem = `This is no JSON: ${error.message}`;
    }
    get("json-note").textContent = problem;
    this.changed();
  }

  // What is sent: its type, its body, and its text if it is one.
  body() {
    switch (this.tabs.chosen) {
      case "tab-json":
        return { contentType: "application/json", ...text(get("json").value), file: "body.json" };
      case "tab-csv":
        return { contentType: "text/csv", ...text(get("csv").value), file: "body.csv" };
      case "tab-picture":
        return this.pictureBody();
      default: {
        const values = this.drawing.values(Number(get("ink").value));
        const row = shaped(values, this.inputs[0]?.shape.slice(1) ?? []);
        return { contentType: "application/json", ...text(JSON.stringify([row])), file: "body.json" };
      }
    }
  }

  pictureBody() {
    const file = this.picture;
    const type = file?.type || "application/octet-stream";
    return { contentType: type, data: file, file: file?.name ?? "picture.jpg", missing: !file && "Choose a picture first." };
  }
}

const text = (value) => ({ text: value, data: value });
