"""Signs a request as botocore does, to compare it with what the broker sent.

Reads JSON from standard input: method, url, headers (those that are signed), body, id, secret,
region. Prints the header Authorization.
"""

import base64
import json
import sys

from botocore import auth, awsrequest, credentials

told = json.load(sys.stdin)
request = awsrequest.AWSRequest(
    method=told["method"],
    url=told["url"],
    headers=told["headers"],
    data=base64.b64decode(told["body"]),
)
request.context["timestamp"] = told["headers"]["x-amz-date"]
signer = auth.S3SigV4Auth(
    credentials.Credentials(told["id"], told["secret"]), "s3", told["region"]
)
canonical = signer.canonical_request(request)
signed = signer.string_to_sign(request, canonical)
scope = signer.credential_scope(request)
names = signer.signed_headers(signer.headers_to_sign(request))
print(
    f"AWS4-HMAC-SHA256 Credential={told['id']}/{scope}, SignedHeaders={names}, "
    f"Signature={signer.signature(signed, request)}"
)
