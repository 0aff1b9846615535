"""boto3 against a double of AWS. Arguments: the URL, the role, a token, the session policy, and
`ecr` or `ecr-public`. Assumes the role by the token and asks that service for a login as the
session. Prints both as JSON, or an error."""

import base64
import json
import sys

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

url, role, token, policy, service = sys.argv[1:]
once = {"retries": {"total_max_attempts": 1}, "connect_timeout": 5, "read_timeout": 10}
try:
    sts = boto3.client(
        "sts",
        region_name="us-east-1",
        endpoint_url=url,
        config=Config(signature_version=UNSIGNED, **once),
    )
    assumed = sts.assume_role_with_web_identity(
        RoleArn=role,
        RoleSessionName="boto3",
        WebIdentityToken=token,
        Policy=policy,
        DurationSeconds=900,
    )
    keys = assumed["Credentials"]
    ecr = boto3.client(
        service,
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
        config=Config(**once),
    )
    data = ecr.get_authorization_token()["authorizationData"]
    data = data[0] if service == "ecr" else data
    login = base64.b64decode(data["authorizationToken"]).decode()
    subject = assumed["SubjectFromWebIdentityToken"]
    print(json.dumps({"subject": subject, "login": login, "endpoint": data.get("proxyEndpoint")}))
except ClientError as error:
    print(json.dumps({"error": error.response["Error"]["Code"]}))
