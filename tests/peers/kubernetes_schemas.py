"""Checks manifests with the schemas of Kubernetes, which reject members that they do not know.

Standard input: {"versions": ["1.37"], "objects": [manifest]}
Standard output: {"unknown": [kinds that Kubernetes does not have], "problems": [text]}
"""

import json
import sys

import kubernetes_validate


def main():
    asked = json.load(sys.stdin)
    unknown, problems = set(), []
    for found in asked["objects"]:
        for version in asked["versions"]:
            try:
                kubernetes_validate.validate(found, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                name = found["metadata"]["name"]
                problems.append(f"{version}: {found['kind']} {name}: {error.message}")
            except kubernetes_validate.SchemaNotFoundError:
                unknown.add(f"{found['apiVersion']} {found['kind']}")
    json.dump({"unknown": sorted(unknown), "problems": problems}, sys.stdout)


main()
