"""google-auth as a workload outside Google, against a double of Google. Arguments: the URL, the
pool provider, the file of the subject token, and the service account to impersonate, or "-". Prints
the token as JSON, or the error."""

import json
import sys

from google.auth import identity_pool
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]

url, audience, file, account = sys.argv[1:]
info = {
    "type": "external_account",
    "audience": audience,
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": f"{url}/v1/token",
    "credential_source": {"file": file},
}
if account != "-":
    info["service_account_impersonation_url"] = (
        f"{url}/v1/projects/-/serviceAccounts/{account}:generateAccessToken"
    )
try:
    credentials = identity_pool.Credentials.from_info(info, scopes=SCOPES)
    credentials.refresh(Request())
    print(json.dumps({"token": credentials.token, "expiry": credentials.expiry.isoformat()}))
except GoogleAuthError as error:
    print(json.dumps({"error": str(error)}))
