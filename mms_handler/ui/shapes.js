// What a model's inputs look like, from its manifest or its sample.

// The shape of nested lists, by their first elements.
export function shapeOf(value) {
  return Array.isArray(value) ? [value.length, ...(value.length ? shapeOf(value[0]) : [])] : [];
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const isJson = (type) => /^application\/(.*\+)?json\b/.test(type ?? "");

// The sample's body as JSON; undefined if it is none.
export function sampleValue(version) {
  const sample = version?.sample;
  return isJson(sample?.contentType) && sample.text !== undefined ? parsed(sample.text) : undefined;
}

// Names and shapes of the inputs, with N for the rows; [] if they are not known.
export function inputsOf(version) {
  if (version?.inputs?.length) {
    return version.inputs.map(({ name, shape }) => ({ name, shape: ["N", ...(shape ?? []).slice(1)] }));
  }
  const value = sampleValue(version);
  if (Array.isArray(value)) return [{ name: "", shape: ["N", ...shapeOf(value).slice(1)] }];
  if (version?.sample?.contentType === "text/csv" && version.sample.text) {
    const line = version.sample.text.split(/\r?\n/).find((each) => each.trim());
    return [{ name: "", shape: ["N", line.split(",").length] }];
  }
  return [];
}

// The sides of a picture with one colour: 28 for (N, 784), (N, 28, 28) or (N, 1, 28, 28); else 0.
export function sideOf(inputs) {
  if (inputs.length !== 1) return 0;
  const dimensions = inputs[0].shape.slice(1).filter((length) => length !== 1);
  const key = dimensions.join(" ");
  return { "784": 28, "28 28": 28, "64": 8, "8 8": 8 }[key] ?? 0;
}

// A body of zeros in the model's shapes; "" if it would be long.
export function zeros(inputs) {
  const sizes = inputs.map(({ shape }) => shape.slice(1).reduce((product, length) => product * length, 1));
  if (!inputs.length || sizes.some((size) => !(size <= 10000))) return "";
  const nested = (shape) => (shape.length ? Array.from({ length: shape[0] }, () => nested(shape.slice(1))) : 0);
  const values = inputs.map(({ shape }) => nested([1, ...shape.slice(1)]));
  return compact(values.length === 1 ? values[0] : Object.fromEntries(inputs.map(({ name }, i) => [name, values[i]])));
}

// JSON for people: lists of plain values on one line each.
export function compact(value, indent = "") {
  const inner = `${indent}  `;
  if (Array.isArray(value) && value.some((each) => Array.isArray(each) || (each && typeof each === "object"))) {
    return `[\n${value.map((each) => inner + compact(each, inner)).join(",\n")}\n${indent}]`;
  }
  if (Array.isArray(value)) return `[${value.map((each) => JSON.stringify(each)).join(", ")}]`;
  if (value && typeof value === "object") {
    const fields = Object.entries(value).map(([name, each]) => `${inner}${JSON.stringify(name)}: ${compact(each, inner)}`);
    return fields.length ? `{\n${fields.join(",\n")}\n${indent}}` : "{}";
  }
  return JSON.stringify(value);
}

// Rows of numbers as CSV; "" for anything else.
export function asCsv(value) {
  const rows = Array.isArray(value) && Array.isArray(value[0]) ? value : [value];
  const plain = rows.every((row) => Array.isArray(row) && row.every((each) => typeof each === "number"));
  return plain ? `${rows.map((row) => row.join(",")).join("\n")}\n` : "";
}
