// A provider for rise-broker, in JavaScript.
//
// The registry makes tokens for one repository: `POST {base_url}/api/tokens`. This code never has
// the administrator's token: the settings have its name, `get` returns a handle, and the host
// inserts the value into the request.

import { Request, send } from "rise:registry/http@0.1.0";
import { get } from "rise:registry/secrets@0.1.0";

// The host checks the settings by this schema before it calls anything here. A property with
// `writeOnly` is a secret.
const schema = {
  type: "object",
  additionalProperties: false,
  required: ["base_url", "admin_token"],
  properties: {
    base_url: {
      type: "string",
      pattern: "^https?://[A-Za-z0-9.-]+(:[0-9]+)?$",
      description: "URL of the registry, such as `https://registry.example.com`.",
    },
    repo_prefix: {
      type: "string",
      default: "",
      pattern: "^([a-z0-9]+([._-][a-z0-9]+)*/)*$",
      description: "Prefix of each project's name, such as `team/`.",
    },
    admin_token: {
      type: "string",
      writeOnly: true,
      description: "Token of an account that may make tokens.",
    },
  },
};
const baseUrl = new RegExp(schema.properties.base_url.pattern);

export const registry = {
  describe() {
    return {
      name: "imaginary-javascript",
      aliases: [],
      version: "0.1.0",
      description: "Makes a token for one repository at a time",
      settingsSchema: JSON.stringify(schema),
    };
  },

  check(settings) {
    try {
      parse(settings);
    } catch (error) {
      throw [{ path: "", message: error.val }];
    }
    return "repository";
  },

  locate(settings, project) {
    const { host, prefix } = parse(settings);
    return { host, repository: prefix + project };
  },

  resolve(settings, location) {
    let parsed;
    try {
      parsed = parse(settings);
    } catch {
      return undefined;
    }
    const { host, prefix } = parsed;
    if (location.host !== host || !location.repository.startsWith(prefix)) return undefined;
    return location.repository.slice(prefix.length) || undefined;
  },

  issue(settings, grant) {
    const { prefix, url, adminToken } = parse(settings);
    const actions = grant.actions();
    const request = new Request("post", `${url}/api/tokens`);
    request.bearer(unwrapErrors(() => get(adminToken)));
    request.json(
      JSON.stringify({
        repository: prefix + grant.project(),
        actions: ["pull", "push"].filter((name) => actions[name]),
        lifetime: grant.lifetime(),
      }),
    );
    const response = unwrapErrors(() => send(request));
    unwrapErrors(() => response.success());
    // The token leaves the body before the body is read. Here it is only a handle.
    const token = response.takeSecret("/token");
    let answer;
    try {
      answer = JSON.parse(response.text());
    } catch {
      throw failed("the registry returned an unexpected answer");
    }
    const { username, expires_at: expiresAt } = answer ?? {};
    const isTime = Number.isSafeInteger(expiresAt) && expiresAt >= 0;
    if (!token || typeof username !== "string" || !isTime) {
      throw failed("the registry answered without a token, a user name or an expiry");
    }
    const credential = { tag: "basic", val: { username, password: token } };
    return { credential, expiresAt: BigInt(expiresAt) };
  },
};

// Throws the errors of capabilities as they are: they come wrapped.
function unwrapErrors(call) {
  try {
    return call();
  } catch (error) {
    throw error.payload ?? error;
  }
}

function failed(text) {
  return { tag: "failed", val: text };
}

// The host has checked the schema, but a call without that check must not trap.
function parse(settings) {
  let values;
  try {
    values = JSON.parse(settings);
  } catch {
    values = undefined;
  }
  const { base_url: url, admin_token: adminToken, repo_prefix: prefix = "" } = values ?? {};
  const isText = [url, adminToken, prefix].every((value) => typeof value === "string");
  if (!isText || !baseUrl.test(url)) {
    throw { tag: "invalid-settings", val: "expected base_url and admin_token to be text" };
  }
  return { host: url.split("://")[1], prefix, url, adminToken };
}
