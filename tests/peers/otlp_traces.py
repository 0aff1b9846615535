"""Reads the traces that the broker posted, with OpenTelemetry's own messages for Python.

Reads JSON from standard input: a list of bodies in base64. Prints a list of spans, each with its
resource's attributes as `resource` and its own as `attributes`.
"""

import base64
import json
import sys

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def attributes(found):
    return {it["key"]: next(iter(it["value"].values())) for it in found.get("attributes", [])}


spans = []
for body in json.load(sys.stdin):
    request = ExportTraceServiceRequest()
    request.ParseFromString(base64.b64decode(body))
    for of_resource in MessageToDict(request).get("resourceSpans", []):
        resource = attributes(of_resource.get("resource", {}))
        for of_scope in of_resource.get("scopeSpans", []):
            for span in of_scope.get("spans", []):
                spans.append({**span, "attributes": attributes(span), "resource": resource})
json.dump(spans, sys.stdout)
