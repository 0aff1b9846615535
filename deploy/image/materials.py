"""The packages that programs are made of: crates as Cargo.lock pins them, and Debian packages."""

import json
import os
import re
import subprocess


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def is_provider(name):
    return name.startswith("rise-provider-") and name != "rise-provider-kit"


def crates_of(repository, root, platform, kinds=(None,)):
    """The crates that are linked into the crate `root`, and into the providers of "rise-broker".

    With the kind "build" also those that compile them.
    """
    found = linked(repository, platform, lambda name: name == root, kinds)
    if root == "rise-broker":
        found += linked(repository, "wasm32-wasip2", is_provider, kinds)
    return found


def linked(repository, platform, is_root, kinds):
    command = ["cargo", "metadata", "--locked", "--format-version", "1"]
    manifest = os.path.join(repository, "Cargo.toml")
    graph = json.loads(
        output(*command, "--manifest-path", manifest, "--filter-platform", platform)
    )
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    packages = {package["id"]: package for package in graph["packages"]}
    todo = [id for id, package in packages.items() if is_root(package["name"])]
    found = set()
    while todo:
        id = todo.pop()
        if id in found:
            continue
        found.add(id)
        for dependency in nodes[id]["deps"]:
            if any(kind["kind"] in kinds for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])
    return [packages[id] for id in found]


def crate_url(crate):
    return f"pkg:cargo/{crate['name']}@{crate['version']}"


def checksums(repository):
    """The SHA-256 of each crate by its URL; those of this repository have none."""
    with open(os.path.join(repository, "Cargo.lock"), encoding="utf-8") as file:
        blocks = file.read().split("[[package]]")[1:]
    fields = [dict(re.findall(r'^(\w+) = "(.*)"$', block, re.MULTILINE)) for block in blocks]
    return {crate_url(crate): crate.get("checksum") for crate in fields}


def debian_package_of(path):
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
    url = f"pkg:deb/debian/{package}@{version}?arch={architecture}"
    return {"type": "library", "name": package, "version": version, "bom-ref": url, "purl": url}
