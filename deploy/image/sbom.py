"""Prints the bill of materials of the image in CycloneDX: the crates that the broker and its
providers are built of, as Cargo.lock pins them, and the Debian packages of the libraries.

Arguments: the repository, its version, the paths of the libraries.
"""

import json
import os
import re
import subprocess
import sys

AUTHORITIES = "ca-certificates"


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def metadata(repository, platform):
    command = ["cargo", "metadata", "--locked", "--format-version", "1"]
    manifest = os.path.join(repository, "Cargo.toml")
    return json.loads(
        output(*command, "--manifest-path", manifest, "--filter-platform", platform)
    )


def crates(graph, roots):
    """The packages that are linked into the roots; those that only build them are not."""
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    packages = {package["id"]: package for package in graph["packages"]}
    todo = [id for id, package in packages.items() if roots(package["name"])]
    found = set()
    while todo:
        id = todo.pop()
        if id in found:
            continue
        found.add(id)
        for dependency in nodes[id]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])
    return [packages[id] for id in found]


def checksums(repository):
    with open(os.path.join(repository, "Cargo.lock"), encoding="utf-8") as file:
        blocks = file.read().split("[[package]]")[1:]
    fields = [dict(re.findall(r'^(\w+) = "(.*)"$', block, re.MULTILINE)) for block in blocks]
    return {(crate["name"], crate["version"]): crate.get("checksum") for crate in fields}


def crate_component(crate, sums):
    name, version = crate["name"], crate["version"]
    purl = f"pkg:cargo/{name}@{version}"
    component = {"type": "library", "name": name, "version": version, "bom-ref": purl}
    component["purl"] = purl
    if crate.get("license"):
        component["licenses"] = [{"expression": crate["license"].replace("/", " OR ")}]
    if sums.get((name, version)):
        component["hashes"] = [{"alg": "SHA-256", "content": sums[(name, version)]}]
    return component


def package_of(path):
    # A merged /usr: dpkg may know the file by its older path.
    real = os.path.realpath(path)
    for known in (real, real.removeprefix("/usr"), path):
        found = subprocess.run(["dpkg-query", "--search", known], capture_output=True, text=True)
        if found.returncode == 0:
            return found.stdout.split(":")[0]
    raise SystemExit(f"{path} is of no Debian package")


def debian_component(package):
    fields = output("dpkg-query", "--show", "--showformat", "${Version} ${Architecture}", package)
    version, architecture = fields.split()
    purl = f"pkg:deb/debian/{package}@{version}?arch={architecture}"
    return {"type": "library", "name": package, "version": version, "bom-ref": purl, "purl": purl}


def is_provider(name):
    return name.startswith("rise-provider-") and name != "rise-provider-kit"


def main():
    repository, version, *libraries = sys.argv[1:]
    sums = checksums(repository)
    components = {}
    for platform, roots in [
        (f"{os.uname().machine}-unknown-linux-gnu", lambda name: name == "rise-broker"),
        ("wasm32-wasip2", is_provider),
    ]:
        for crate in crates(metadata(repository, platform), roots):
            component = crate_component(crate, sums)
            components[component["bom-ref"]] = component
    for package in {*map(package_of, libraries), AUTHORITIES}:
        component = debian_component(package)
        components[component["bom-ref"]] = component
    subject = {"type": "application", "name": "rise-broker", "version": version}
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": subject},
        "components": [components[key] for key in sorted(components)],
    }
    json.dump(document, sys.stdout, indent=1)
    print()


main()
