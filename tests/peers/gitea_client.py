"""py-gitea and pyforgejo against a double of Gitea. Arguments: the client (gitea or forgejo), the
URL, a user, a password, then a command. Prints JSON.

    create NAME SCOPE...   makes an access token of the user
    names                  lists the names of the user's access tokens, page by page
    delete NAME            deletes one
"""

import json
import logging
import sys

import gitea
import httpx
from gitea.exceptions import GiteaApiException
from pyforgejo import PyforgejoApi
from pyforgejo.core.api_error import ApiError


class OfGitea:
    """py-gitea has no functions for access tokens, but requests, a login and pages."""

    def __init__(self, url, user, password):
        self.client = gitea.Gitea(url, auth=(user, password), log_level=logging.CRITICAL)
        self.tokens = f"/users/{user}/tokens"

    def create(self, name, *scopes):
        return self.client.requests_post(self.tokens, {"name": name, "scopes": list(scopes)})

    def names(self):
        return [token["name"] for token in self.client.requests_get_paginated(self.tokens)]

    def delete(self, name):
        self.client.requests_delete(f"{self.tokens}/{name}")
        return True


class OfForgejo:
    """pyforgejo sends an access token, which may not make others: httpx sends the login instead."""

    def __init__(self, url, user, password):
        http = httpx.Client(auth=(user, password))
        api = PyforgejoApi(base_url=f"{url}/api/v1", api_key="none", httpx_client=http)
        self.user, self.client = user, api.user

    def create(self, name, *scopes):
        made = self.client.create_token(self.user, name=name, scopes=list(scopes))
        return made.model_dump(mode="json")

    def names(self):
        names, page = [], 1
        while found := self.client.get_tokens(self.user, page=page, limit=50):
            names += [token.name for token in found]
            page += 1
        return names

    def delete(self, name):
        self.client.delete_access_token(self.user, name)
        return True


kind, url, user, password, command, *arguments = sys.argv[1:]
client = {"gitea": OfGitea, "forgejo": OfForgejo}[kind](url, user, password)
commands = {"create": client.create, "names": client.names, "delete": client.delete}
try:
    print(json.dumps({"ok": commands[command](*arguments)}))
except (ApiError, GiteaApiException) as error:
    print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
