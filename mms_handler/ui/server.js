// Requests to the server that this page came from, with the token that its user gave.

let token = "";

// The token is only in this variable: it is gone when the page is closed.
export function useToken(text) {
  token = text.trim();
}

export function hasToken() {
  return token !== "";
}

export class TokenNeeded extends Error {}

// An address of the server; the page may be behind a proxy that adds a prefix.
export function address(path) {
  return new URL(`../${path}`, location.href).href;
}

export async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  const reply = await fetch(address(path), { cache: "no-cache", credentials: "omit", ...options, headers });
  if (reply.status === 401) throw new TokenNeeded("a token is needed");
  return reply;
}

export async function askJson(path) {
  const reply = await ask(path);
  if (!reply.ok) throw new Error(`${path}: ${reply.status}`);
  return reply.json();
}
