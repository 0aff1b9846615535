"""google-auth against a double of Google. Arguments: the URL, the JSON file of a service account,
the service account to impersonate, seconds. Prints both tokens as JSON, or the error."""

import json
import sys

from google.auth import impersonated_credentials
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from google.oauth2 import service_account

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]

url, info, account, seconds = sys.argv[1:]
info = json.loads(info)
info["token_uri"] = f"{url}/token"
try:
    login = service_account.Credentials.from_service_account_info(info, scopes=SCOPES)
    login.refresh(Request())
    target = impersonated_credentials.Credentials(
        source_credentials=login,
        target_principal=account,
        target_scopes=SCOPES,
        lifetime=int(seconds),
        iam_endpoint_override=f"{url}/v1/projects/-/serviceAccounts/{account}:generateAccessToken",
    )
    target.refresh(Request())
    made = {"login": login.token, "token": target.token, "expiry": target.expiry.isoformat()}
    print(json.dumps(made))
except GoogleAuthError as error:
    print(json.dumps({"error": str(error)}))
