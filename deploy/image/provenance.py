"""Prints how an image came to be: an in-toto statement with the provenance of SLSA 1.0.

Arguments: the repository, the crate of the program, its platform, the name of the image, the
revision of the programs, the recipe's path in the repository, and the folder of the recipe's
output. docs/install/image.md explains the fields.
"""

import hashlib
import json
import os
import sys

from materials import checksums, crate_url, crates_of, output

HOME = "https://github.com/rise-deploy/rise-broker"
# The end of a revision whose files had changes that no commit has.
MODIFIED = "-modified"


def subjects(image, folder, bill):
    """The image, each file in it that was built here, and the bill of materials."""
    with open(os.path.join(folder, "digest"), encoding="utf-8") as file:
        digests = {image: file.read().strip().removeprefix("sha256:")}
    for component in bill["components"]:
        if component["type"] == "file":
            digests[component["name"]] = component["hashes"][0]["content"]
    with open(os.path.join(folder, "sbom.cdx.json"), "rb") as file:
        digests["sbom.cdx.json"] = hashlib.sha256(file.read()).hexdigest()
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in digests.items()]


def source(revision):
    dependency = {"uri": f"git+{HOME}"}
    if revision.endswith(MODIFIED):
        return dependency | {"annotations": {"modified": True}}
    return dependency | {"digest": {"gitCommit": revision}}


def dependencies(repository, crate, platform, revision, bill):
    """What was built from: the commit, the compiler, crates, and Debian packages."""
    sums = checksums(repository)
    urls = {crate_url(each) for each in crates_of(repository, crate, platform, (None, "build"))}
    found = [source(revision), {"uri": f"pkg:generic/rust@{version('rustc')}"}]
    for url in sorted(urls):
        # The crates without a checksum are those of the commit.
        if sums.get(url):
            found.append({"uri": url, "digest": {"sha256": sums[url]}})
    for component in bill["components"]:
        if component.get("purl", "").startswith("pkg:deb/"):
            found.append({"uri": component["purl"]})
    return found


def version(program):
    return output(program, "--version").split()[1 if program == "rustc" else 2]


def main():
    repository, crate, platform, image, revision, recipe, folder = sys.argv[1:]
    with open(os.path.join(folder, "sbom.cdx.json"), encoding="utf-8") as file:
        bill = json.load(file)
    builder = os.environ.get("BUILDER_ID") or f"{HOME}/blob/main/{recipe}"
    predicate = {
        "buildDefinition": {
            "buildType": f"{HOME}/blob/main/docs/install/image.md#provenance",
            "externalParameters": {"source": f"git+{HOME}", "revision": revision, "recipe": recipe},
            "internalParameters": {
                "platform": platform,
                "SOURCE_DATE_EPOCH": os.environ["SOURCE_DATE_EPOCH"],
            },
            "resolvedDependencies": dependencies(repository, crate, platform, revision, bill),
        },
        "runDetails": {"builder": {"id": builder, "version": {"buildah": version("buildah")}}},
    }
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects(image, folder, bill),
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": predicate,
    }
    json.dump(statement, sys.stdout, indent=1)
    print()


main()
