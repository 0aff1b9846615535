"""Cloudsmith's own command-line client against a double of Cloudsmith. Arguments: the URL, the
organization, the service account, and a file with the identity token. Prints the token as JSON, or
the error."""

import json
import pathlib
import sys

from cloudsmith_cli.core.credentials.models import CredentialContext
from cloudsmith_cli.core.credentials.oidc.exchange import OidcExchangeError, exchange_oidc_token

url, organization, service, file = sys.argv[1:]
try:
    context = CredentialContext(api_host=url)
    identity = pathlib.Path(file).read_text()
    print(json.dumps({"token": exchange_oidc_token(context, organization, service, identity)}))
except OidcExchangeError as error:
    print(json.dumps({"error": str(error)}))
