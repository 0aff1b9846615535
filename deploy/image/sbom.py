"""Prints the bill of materials of an image in CycloneDX: the crates that its program and the
providers are built of, the Debian packages that it has files of, and each of its files.

Arguments: the repository, the crate of the program, the version, the platform of the program, the
folder of the files, and a list of them. A line of the list is a path in the image; after a tab
follows the path of a Debian package that the file is from.
"""

import hashlib
import json
import os
import sys

from materials import checksums, crate_url, crates_of, debian_component, debian_package_of


def crate_component(crate, checksum):
    url = crate_url(crate)
    component = {"type": "library", "name": crate["name"], "version": crate["version"]}
    component |= {"bom-ref": url, "purl": url}
    if crate.get("license"):
        component["licenses"] = [{"expression": crate["license"].replace("/", " OR ")}]
    if checksum:
        component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return component


def file_component(root, path):
    with open(root + path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    hashes = [{"alg": "SHA-256", "content": digest}]
    return {"type": "file", "name": path, "bom-ref": f"file:{path}", "hashes": hashes}


def main():
    repository, name, version, platform, root, listed = sys.argv[1:]
    sums = checksums(repository)
    components = {}
    for crate in crates_of(repository, name, platform):
        component = crate_component(crate, sums.get(crate_url(crate)))
        components[component["bom-ref"]] = component
    with open(listed, encoding="utf-8") as file:
        lines = sorted(line.rstrip("\n").partition("\t") for line in file)
    for path, _, source in lines:
        component = file_component(root, path)
        if source:
            package = debian_component(debian_package_of(source))
            package = components.setdefault(package["bom-ref"], package)
            package.setdefault("components", []).append(component)
        else:
            components[component["bom-ref"]] = component
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": name, "version": version}},
        "components": [components[key] for key in sorted(components)],
    }
    json.dump(document, sys.stdout, indent=1)
    print()


main()
