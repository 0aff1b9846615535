"""Runs oidc-provider-mock on 127.0.0.1, with the two things that real issuers have and it lacks.

It signs without `kid`, which every large issuer sends and a strict verifier requires; and
`PUT /users/<sub>` accepts no sub with a slash, which GitHub's have. Nothing else is changed.

    oidc_provider.py PORT TOKEN_SECONDS      (negative seconds: tokens have already expired)
"""

import os
import sys
from datetime import timedelta

import uvicorn
from oidc_provider_mock import _app


def header_with_kid(_self, _client):
    return {"typ": "JWT", "alg": "RS256", "kid": _app.storage.jwk.as_dict()["kid"]}


def main(port, token_seconds):
    # As its own command line does: plain http, on loopback only.
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
    _app.OpenIDCode.get_encode_header = header_with_kid
    app = _app.app(access_token_max_age=timedelta(seconds=token_seconds))
    app.add_url_rule("/users/<path:sub>", "set_any_user", _app.set_user, methods=["PUT"])
    uvicorn.run(app, interface="wsgi", host="127.0.0.1", port=port)


main(int(sys.argv[1]), int(sys.argv[2]))
