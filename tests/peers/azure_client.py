"""What Microsoft's own clients do with a registry: log in, push and pull an artifact, list.

Reads settings as JSON on standard input, and prints what it found as JSON. A failure is the name of
the exception and its first line.
"""

import io
import json
import sys

from azure.containerregistry import ContainerRegistryClient
from azure.core.exceptions import AzureError
from azure.identity import (
    CertificateCredential,
    ClientAssertionCredential,
    ClientSecretCredential,
)

settings = json.load(sys.stdin)
tenant_and_client = settings["tenant_id"], settings["client_id"]
options = {
    "authority": settings["authority_host"],
    # Else it asks login.microsoftonline.com which hosts of Entra ID there are.
    "disable_instance_discovery": True,
}
if "certificate" in settings:
    pem = settings["certificate"].encode()
    credential = CertificateCredential(*tenant_and_client, certificate_data=pem, **options)
elif "assertion" in settings:
    # A workload that runs elsewhere: it has a token of an issuer that the application trusts.
    credential = ClientAssertionCredential(
        *tenant_and_client, func=lambda: settings["assertion"], **options
    )
else:
    credential = ClientSecretCredential(
        *tenant_and_client, settings["client_secret"], **options
    )
client = ContainerRegistryClient(
    settings["registry"], credential, audience=settings["audience"], retry_total=0
)
repository = settings["repository"]
try:
    layer, size = client.upload_blob(repository, io.BytesIO(b"hello"))
    config, config_size = client.upload_blob(repository, io.BytesIO(b"{}"))
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config,
            "size": config_size,
        },
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": layer,
                "size": size,
            }
        ],
    }
    pushed = client.set_manifest(repository, manifest, tag="v1")
    pulled = client.get_manifest(repository, "v1")
    blob = b"".join(client.download_blob(repository, layer))
    found = {
        "pushed": pushed,
        "pulled": pulled.digest,
        "blob": blob.decode(),
        "repositories": list(client.list_repository_names()),
    }
except AzureError as error:
    found = {"error": type(error).__name__, "text": str(error).splitlines()[0]}
json.dump(found, sys.stdout)
