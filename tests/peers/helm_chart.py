"""Lints and renders a chart with Helm's own code, and reads YAML for tests that have no parser.

Standard input: {"chart": folder, "cases": {name: values in YAML}, "files": [path]}
Standard output: {"cases": {name: {"findings", "objects", "notes"} or {"error"}},
                  "files": [[document]]}
"""

import json
import sys

import helm_python
import yaml


def rendered(chart, values):
    objects, notes = [], ""
    for name, text in chart.render(values, name="rise", namespace="rise-system").items():
        if name.endswith("NOTES.txt"):
            notes = text
        else:
            objects += [found for found in yaml.safe_load_all(text) if found is not None]
    return {"objects": objects, "notes": notes}


def case(folder, chart, text):
    values = yaml.safe_load(text) or {}
    try:
        findings = helm_python.lint(folder, values, strict=True)["messages"]
        return {"findings": findings, **rendered(chart, values)}
    except helm_python.HelmError as error:
        return {"error": str(error)}


def main():
    asked = json.load(sys.stdin)
    with helm_python.Chart.load(asked["chart"]) as chart:
        cases = {name: case(asked["chart"], chart, text) for name, text in asked["cases"].items()}
    files = []
    for path in asked["files"]:
        with open(path, encoding="utf-8") as file:
            files.append(list(yaml.safe_load_all(file)))
    json.dump({"cases": cases, "files": files}, sys.stdout)


main()
