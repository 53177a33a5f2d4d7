// The same request for a shell or a Python program.

// Longer bodies, and those that are no text, are in a file.
const MAX_TEXT = 2000;

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function python(text) {
  return JSON.stringify(text).replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

// JSON without the line breaks that it has in the editor.
export function short(text) {
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return text;
  }
}

// Whether a request's body is short text, which a command can have in it.
export function isInline(request) {
  return request.text !== undefined && request.text.length <= MAX_TEXT;
}

export function curl(request) {
  const lines = [`curl ${quoted(request.url)}`, `--header ${quoted(`Content-Type: ${request.contentType}`)}`];
  if (request.accept !== "*/*") lines.push(`--header ${quoted(`Accept: ${request.accept}`)}`);
  if (request.token) lines.push(`--header "Authorization: Bearer $TOKEN"`);
  lines.push(`--data-binary ${isInline(request) ? quoted(request.text) : quoted(`@${request.file}`)}`);
  return lines.join(" \\\n  ");
}

export function inPython(request) {
  const headers = [["Content-Type", python(request.contentType)]];
  if (request.accept !== "*/*") headers.push(["Accept", python(request.accept)]);
  if (request.token) headers.push(["Authorization", `"Bearer " + os.environ["TOKEN"]`]);
  const body = isInline(request) ? `${python(request.text)}.encode()` : `open(${python(request.file)}, "rb").read()`;
  return `${request.token ? "import os\n" : ""}import urllib.request

request = urllib.request.Request(
    ${python(request.url)},
    data=${body},
    headers={${headers.map(([name, value]) => `"${name}": ${value}`).join(", ")}},
)
with urllib.request.urlopen(request) as reply:
    print(reply.read().decode())`;
}

// mms-handler's own command; it finds a server of this machine by the model's name.
export function invoke(request) {
  const { hostname, port, protocol, pathname } = new URL(request.url);
  const local = protocol === "http:" && /^(localhost|127\.0\.0\.1)$/.test(hostname) && pathname.startsWith("/predictions/");
  const words = ["mms-handler invoke", local ? pathname.slice("/predictions/".length) : quoted(request.url)];
  if (!isInline(request)) words.push(quoted(request.file));
  words.push(`--content-type ${request.contentType}`);
  if (request.accept !== "*/*") words.push(`--accept ${quoted(request.accept)}`);
  if (local && port !== "8080") words.push(`--port ${port || 80}`);
  if (request.token) words.push("--token-file FILE");
  return isInline(request) ? `printf %s ${quoted(request.text)} |\n  ${words.join(" ")}` : words.join(" ");
}
