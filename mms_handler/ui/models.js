// The list of models: their states, workers, rates and latencies.

import { History, MOMENTS, shownMs, shownRate } from "./counts.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [120, 32];

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// A path over the latest moments; the newest is at the right.  NaN leaves a gap.
function line(values, most) {
  const step = WIDTH / (MOMENTS - 1);
  const first = MOMENTS - values.length;
  let pen = "M";
  let path = "";
  values.forEach((value, i) => {
    if (Number.isNaN(value)) {
      pen = "M";
      return;
    }
    const y = HEIGHT - (HEIGHT * value) / most;
    path += `${pen}${((first + i) * step).toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  });
  return path;
}

function chart(label) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  return svg;
}

function setPaths(svg, paths) {
  svg.replaceChildren(
    ...paths.map(([kind, d]) => {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", kind);
      path.setAttribute("d", d);
      return path;
    }),
  );
}

function sentence(version) {
  switch (version.state) {
    case "ready":
      return version.share ? "ready" : "kept";
    case "loading":
      return `loading: ${version.phase}`;
    case "idle":
      return "has no workers";
    default:
      return `failed: ${version.reason ?? "it cannot be loaded"}`;
  }
}

const COLOURS = { ready: "good", loading: "warn", idle: "muted", failed: "bad" };

// One model of the list.
class Card {
  constructor(name, choose) {
    this.history = new History();
    this.button = element("button", { type: "button", textContent: name, onclick: choose });
    this.versions = element("ul");
    this.rate = element("span");
    this.times = element("span");
    this.rateChart = chart("");
    this.timesChart = chart("");
    this.figures = element(
      "dl",
      { className: "figures" },
      element("div", {}, element("dt", { textContent: "Rate" }), element("dd", {}, this.rate, this.rateChart)),
      element("div", {}, element("dt", { textContent: "Latency" }), element("dd", {}, this.times, this.timesChart)),
    );
    this.item = element("li", {}, element("h3", {}, this.button), this.versions, this.figures);
  }

  describe(model) {
    const several = model.versions.length > 1;
    const text = JSON.stringify(model.versions.map(({ sample, inputs, ...rest }) => rest));
    if (text === this.text) return;
    this.text = text;
    this.lines = model.versions.map((version) => {
      const state = element("span", {
        className: `state ${version.state} ${COLOURS[version.state]}`,
        textContent: sentence(version),
      });
      const more = element("span", { className: "muted" });
      const parts = [version.version && `version ${version.version}`];
      if (several && version.state === "ready") parts.push(`${version.share} %`);
      const workers = element("span", { className: "muted" });
      more.textContent = parts.filter(Boolean).map((part) => ` · ${part}`).join("");
      const item = element("li", {}, state, more, workers);
      if (version.state === "ready" && version.reason) {
        item.append(element("div", { className: "warn", textContent: `An edit does not load: ${version.reason}` }));
      }
      return { version: version.version, workers, item };
    });
    this.versions.replaceChildren(...this.lines.map((each) => each.item));
    this.figures.hidden = model.versions.every((version) => version.state === "failed");
  }

  count(ms, bounds, models) {
    this.history.add(ms, bounds, models);
    for (const each of this.lines ?? []) {
      const found = models.find((model) => (model.version ?? "") === each.version);
      const waiting = found?.waiting ? `, ${found.waiting} waiting` : "";
      each.workers.textContent = found
        ? ` · ${found.alive} of ${found.wanted} worker${found.wanted === 1 ? "" : "s"}${waiting}`
        : "";
    }
    this.draw();
  }

  draw() {
    const { rates, p50, p99, recentRate, recentFailures } = this.history;
    const [median, high] = [p50[p50.length - 1], p99[p99.length - 1]];
    this.rate.textContent = shownRate(recentRate);
    if (recentFailures) {
      this.rate.append(element("span", { className: "bad", textContent: `, ${recentFailures} failed` }));
    }
    this.times.textContent = Number.isNaN(median) ? "–" : `${shownMs(median)}, p99 ${shownMs(high)}`;
    const most = Math.max(1, ...rates);
    const path = line(rates, most);
    const first = (((MOMENTS - rates.length) * WIDTH) / (MOMENTS - 1)).toFixed(1);
    const area = path && `${path}L${WIDTH} ${HEIGHT}L${first} ${HEIGHT}Z`;
    setPaths(this.rateChart, [["area", area], ["", path]]);
    const slowest = Math.max(0.1, ...p99.filter((value) => !Number.isNaN(value)));
    setPaths(this.timesChart, [["high", line(p99, slowest)], ["", line(p50, slowest)]]);
    this.rateChart.setAttribute("aria-label", `Requests a second in the last minute, at most ${shownRate(most)}`);
    this.timesChart.setAttribute("aria-label", `Latency in the last minute, at most ${shownMs(slowest)}`);
  }
}

// Keeps the list in step with the server; `chosen` is called with a model's name.
export class Models {
  constructor(list, none, chosen) {
    this.list = list;
    this.none = none;
    this.chosen = chosen;
    this.cards = new Map();
  }

  show(models) {
    const names = models.map((model) => model.name);
    for (const [name, card] of this.cards) {
      if (!names.includes(name)) {
        card.item.remove();
        this.cards.delete(name);
      }
    }
    models.forEach((model, i) => {
      let card = this.cards.get(model.name);
      if (!card) {
        card = new Card(model.name, () => this.chosen(model.name));
        this.cards.set(model.name, card);
      }
      if (this.list.children[i] !== card.item) this.list.insertBefore(card.item, this.list.children[i] ?? null);
      card.describe(model);
    });
    this.none.hidden = models.length > 0;
  }

  mark(name) {
    for (const [each, card] of this.cards) {
      card.item.classList.toggle("chosen", each === name);
      if (each === name) card.button.setAttribute("aria-current", "true");
      else card.button.removeAttribute("aria-current");
    }
  }

  count(live) {
    for (const [name, card] of this.cards) {
      card.count(live.ms, live.bounds, live.models.filter((model) => model.model === name));
    }
  }
}
