"""A provider for rise-broker, in Python.

The registry makes tokens for one repository: `POST {base_url}/api/tokens`. This code never has the
administrator's token: the settings have its name, `secrets.get` returns a handle, and the host
inserts the value into the request.
"""

import json
import re

from componentize_py_types import Err
from wit_world.exports.registry import Manifest, Problem, Scope
from wit_world.imports import http, secrets, types

# The host checks the settings by this schema before it calls anything here. A property with
# `writeOnly` is a secret.
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["base_url", "admin_token"],
    "properties": {
        "base_url": {
            "type": "string",
            "pattern": "^https?://[A-Za-z0-9.-]+(:[0-9]+)?$",
            "description": "URL of the registry, such as `https://registry.example.com`.",
        },
        "repo_prefix": {
            "type": "string",
            "default": "",
            "pattern": "^([a-z0-9]+([._-][a-z0-9]+)*/)*$",
            "description": "Prefix of each project's name, such as `team/`.",
        },
        "admin_token": {
            "type": "string",
            "writeOnly": True,
            "description": "Token of an account that may make tokens.",
        },
    },
}
BASE_URL = re.compile(SCHEMA["properties"]["base_url"]["pattern"])


class Registry:
    def describe(self) -> Manifest:
        description = "Makes a token for one repository at a time"
        return Manifest("imaginary-python", [], "0.1.0", description, json.dumps(SCHEMA))

    def check(self, settings: str) -> Scope:
        try:
            parse(settings)
        except Err as error:
            raise Err([Problem("", error.value.value)])
        return Scope.REPOSITORY

    def locate(self, settings: str, project: str) -> types.Location:
        host, prefix, _, _ = parse(settings)
        return types.Location(host, prefix + project)

    def resolve(self, settings: str, location: types.Location):
        try:
            host, prefix, _, _ = parse(settings)
        except Err:
            return None
        if location.host != host or not location.repository.startswith(prefix):
            return None
        return location.repository[len(prefix) :] or None

    def issue(self, settings: str, grant: types.Grant) -> types.Issued:
        _, prefix, base_url, admin_token = parse(settings)
        actions = grant.actions()
        wanted = {
            "repository": prefix + grant.project(),
            "actions": [
                name
                for flag, name in [(types.Actions.PULL, "pull"), (types.Actions.PUSH, "push")]
                if flag in actions
            ],
            "lifetime": grant.lifetime(),
        }
        request = http.Request(http.Method.POST, base_url + "/api/tokens")
        request.bearer(secrets.get(admin_token))
        request.json(json.dumps(wanted))
        # Nothing catches the errors of capabilities here: the host gets them as they are.
        response = http.send(request)
        response.success()
        # The token leaves the body before the body is read. Here it is only a handle.
        token = response.take_secret("/token")
        try:
            answer = json.loads(response.text())
            username, expires_at = answer["username"], answer["expires_at"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Err(types.Error_Failed("the registry returned an unexpected answer"))
        if token is None or not isinstance(username, str) or not is_time(expires_at):
            text = "the registry answered without a token, a user name or an expiry"
            raise Err(types.Error_Failed(text))
        return types.Issued(types.Credential_Basic(types.Login(username, token)), expires_at)


def parse(settings: str):
    """Returns host, prefix, base URL and the name of the secret.

    The host has checked the schema, but a call without that check must not trap.
    """
    try:
        values = json.loads(settings)
        base_url, admin_token = values["base_url"], values["admin_token"]
        prefix = values.get("repo_prefix", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Err(types.Error_InvalidSettings("expected base_url and admin_token"))
    are_text = all(isinstance(value, str) for value in (base_url, admin_token, prefix))
    if not are_text or not BASE_URL.match(base_url):
        raise Err(types.Error_InvalidSettings("expected base_url and admin_token to be text"))
    return base_url.split("://", 1)[1], prefix, base_url, admin_token


def is_time(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
