"""python-gitlab against a double of GitLab. Arguments: the URL, a token, the path of a project,
then a command. Prints JSON.

    create NAME EXPIRES_AT SCOPE...   makes a deploy token of the project
    names                             lists the names of its deploy tokens, page by page
    get ID                            reads one
    delete ID                         deletes one
"""

import json
import sys

import gitlab


def create(tokens, name, expires_at, *scopes):
    asked = {"name": name, "expires_at": expires_at, "scopes": list(scopes)}
    return tokens.create(asked).attributes


def names(tokens):
    return [token.name for token in tokens.list(iterator=True)]


def get(tokens, token_id):
    return tokens.get(int(token_id)).attributes


def delete(tokens, token_id):
    tokens.delete(int(token_id))
    return True


url, token, project, command, *arguments = sys.argv[1:]
client = gitlab.Gitlab(url, private_token=token, retry_transient_errors=False)
tokens = client.projects.get(project, lazy=True).deploytokens
commands = {"create": create, "names": names, "get": get, "delete": delete}
try:
    print(json.dumps({"ok": commands[command](tokens, *arguments)}))
except gitlab.exceptions.GitlabError as error:
    print(json.dumps({"status": error.response_code, "error": str(error)}))
