// Tests of the provider with doubles of the capabilities: `make test`.

import assert from "node:assert/strict";
import { register } from "node:module";
import { test } from "node:test";

// `import … from "rise:registry/…"` gets the doubles of this file.
globalThis.doubles = {};
const double = `
  export const Request = function (...of) { return new globalThis.doubles.Request(...of); };
  export const send = (request) => globalThis.doubles.send(request);
  export const get = (name) => globalThis.doubles.get(name);`;
const hook = `
  export const resolve = (name, context, next) => name.startsWith("rise:")
    ? { shortCircuit: true, format: "module",
        url: "data:text/javascript,${encodeURIComponent(double).replaceAll("'", "%27")}" }
    : next(name, context);`;
register(`data:text/javascript,${encodeURIComponent(hook)}`);
const { readFile } = await import("node:fs/promises");
const source = await readFile(new URL("provider.js", import.meta.url), "utf8");
const { registry } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

const settings = JSON.stringify({
  base_url: "https://r.example.com",
  repo_prefix: "team/",
  admin_token: "admin",
});
const token = { username: "token-7", token: null, expires_at: 1800000600 };

// The result of `issue` while the registry answers `text`, and what it was sent.
function issue(text, error) {
  const sent = {};
  globalThis.doubles = {
    Request: class {
      constructor(method, url) {
        Object.assign(sent, { method, url });
      }
      bearer(secret) {
        sent.bearer = secret;
      }
      json(body) {
        sent.body = JSON.parse(body);
      }
    },
    get: (name) => ({ secret: name }),
    send: () => ({
      success() {
        if (error) throw { payload: error };
      },
      takeSecret: (pointer) => ({ secret: pointer }),
      text: () => text,
    }),
  };
  const grant = {
    project: () => "my-app",
    actions: () => ({ pull: true, push: false, delete: false }),
    lifetime: () => 600,
  };
  return { issued: registry.issue(settings, grant), sent };
}

test("a token is made for what was granted", () => {
  const { issued, sent } = issue(JSON.stringify(token));
  assert.equal(issued.expiresAt, 1800000600n);
  assert.deepEqual(issued.credential.val, { username: "token-7", password: { secret: "/token" } });
  assert.deepEqual(sent, {
    method: "post",
    url: "https://r.example.com/api/tokens",
    bearer: { secret: "admin" },
    body: { repository: "team/my-app", actions: ["pull"], lifetime: 600 },
  });
});

test("errors of the registry are handed on", () => {
  const denied = { tag: "denied", val: "POST r.example.com/api/tokens answered 403" };
  assert.throws(() => issue("", denied), (error) => error === denied);
});

test("an unexpected answer is an error of the contract", () => {
  for (const text of ["", "[]", "{}", JSON.stringify({ ...token, expires_at: "soon" })]) {
    assert.throws(() => issue(text), (error) => error.tag === "failed", text);
  }
});

test("resolve is the inverse of locate", () => {
  const location = registry.locate(settings, "my-app");
  assert.deepEqual(location, { host: "r.example.com", repository: "team/my-app" });
  assert.equal(registry.resolve(settings, location), "my-app");
  assert.equal(registry.resolve(settings, { ...location, host: "s.example.com" }), undefined);
});
