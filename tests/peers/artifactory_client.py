"""pyartifactory against a double of Artifactory. Arguments: the URL, then a command. Prints JSON.

    token ADMIN_TOKEN USER SCOPE SECONDS   makes an access token
    revoke ADMIN_TOKEN TOKEN               revokes it
    push USER TOKEN PATH                   deploys a file, and reads what Artifactory says of it
    pull USER TOKEN PATH                   reads a file
"""

import json
import os
import sys
import tempfile

from pyartifactory import Artifactory
from pyartifactory.exception import ArtifactoryError, InvalidTokenDataError
from requests.exceptions import HTTPError


def token(url, admin, user, scope, seconds):
    security = Artifactory(url=url, access_token=admin, api_version=2).security
    made = security.create_access_token(user, expires_in=int(seconds), scope=scope)
    return made.model_dump()


def revoke(url, admin, secret):
    security = Artifactory(url=url, access_token=admin, api_version=2).security
    return security.revoke_access_token(secret)


def push(url, user, secret, path):
    artifacts = Artifactory(url=f"{url}/artifactory", auth=(user, secret), api_version=2).artifacts
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "manifest.json")
        with open(file, "w", encoding="utf-8") as stream:
            stream.write("{}")
        return artifacts.deploy(file, path).path


def pull(url, user, secret, path):
    artifacts = Artifactory(url=f"{url}/artifactory", auth=(user, secret), api_version=2).artifacts
    return artifacts.info(path).path


def status(error):
    while error is not None:
        if isinstance(error, HTTPError):
            return error.response.status_code
        error = error.__cause__
    return 0


url, command, *arguments = sys.argv[1:]
try:
    commands = {"token": token, "revoke": revoke, "push": push, "pull": pull}
    print(json.dumps({"ok": commands[command](url, *arguments)}))
except (ArtifactoryError, InvalidTokenDataError, HTTPError) as error:
    print(json.dumps({"status": status(error), "error": str(error)}))
