// A provider for an imaginary registry, in JavaScript.
//
// The registry makes tokens for one repository: `POST {base_url}/api/tokens`. The administrator's token never gets here:
// the settings hold its name, `get` gives a handle on it, and the host puts its value into the request.

import { Request, send } from "rise:registry/http@0.1.0";
import { get } from "rise:registry/secrets@0.1.0";

// Problems with a setting are found by this schema before anything here is called. A property marked `writeOnly` is a secret.
const schema = {
  type: "object",
  additionalProperties: false,
  required: ["base_url", "admin_token"],
  properties: {
    base_url: {
      type: "string",
      pattern: "^https?://[A-Za-z0-9.-]+(:[0-9]+)?$",
      description: "Where the registry is, such as `https://registry.example.com`.",
    },
    repo_prefix: {
      type: "string",
      default: "",
      pattern: "^([a-z0-9]+([._-][a-z0-9]+)*/)*$",
      description: "Before each project's name, such as `team/`.",
    },
    admin_token: {
      type: "string",
      writeOnly: true,
      description: "The token of an account that may make tokens.",
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
      description: "An imaginary registry that makes tokens for one repository.",
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
    const project = location.repository.slice(prefix.length);
    return project === "" || project.includes("/") ? undefined : project;
  },

  issue(settings, grant) {
    const { prefix, url, adminToken } = parse(settings);
    const actions = grant.actions();
    const request = new Request("post", `${url}/api/tokens`);
    request.bearer(handOn(() => get(adminToken)));
    request.json(
      JSON.stringify({
        repository: prefix + grant.project(),
        actions: ["pull", "push"].filter((name) => actions[name]),
        lifetime: grant.lifetime(),
      }),
    );
    const response = handOn(() => send(request));
    handOn(() => response.success());
    // The token leaves the body before it is read: it is the host's, and a handle here.
    const token = response.takeSecret("/token");
    let answer;
    try {
      answer = JSON.parse(response.text());
    } catch {
      throw failed("the registry answered something that makes no sense");
    }
    const { username, expires_at: expiresAt } = answer ?? {};
    if (!token || typeof username !== "string" || !Number.isSafeInteger(expiresAt) || expiresAt < 0) {
      throw failed("the registry answered without a token, a user name or an end");
    }
    return { credential: { tag: "basic", val: { username, password: token } }, expiresAt: BigInt(expiresAt) };
  },
};

// What a capability throws is what the host wants to hear; it comes wrapped.
function handOn(call) {
  try {
    return call();
  } catch (error) {
    throw error.payload ?? error;
  }
}

function failed(text) {
  return { tag: "failed", val: text };
}

// The schema has been checked; this is for whoever did not.
function parse(settings) {
  let values;
  try {
    values = JSON.parse(settings);
  } catch {
    values = undefined;
  }
  const { base_url: url, admin_token: adminToken, repo_prefix: prefix = "" } = values ?? {};
  const isText = [url, adminToken, prefix].every((it) => typeof it === "string");
  if (!isText || !baseUrl.test(url)) {
    throw { tag: "invalid-settings", val: "expected base_url and admin_token to be text" };
  }
  return { host: url.split("://")[1], prefix, url, adminToken };
}
