"""Each line of stdin is a document: is it valid, and is its YAML the same as its JSON?"""
import json
import sys

import kubernetes_validate
import yaml

version = kubernetes_validate.latest_version()
seen, bad = 0, 0


def each(document):
    return document["items"] if document["kind"] == "List" else [document]


for line in sys.stdin:
    case = json.loads(line)
    seen += 1
    if yaml.safe_load(case["yaml"]) != case["json"]:
        bad += 1
        print(case["name"], "as YAML is another:", yaml.safe_load(case["yaml"]), case["json"])
    for document in each(case["json"]):
        try:
            kubernetes_validate.validate(document, version, strict=case["strict"])
        except Exception as error:
            bad += 1
            print(case["name"], "is not valid:", error)
print(seen, "documents,", bad, "wrong")
sys.exit(bad > 0 or seen < 40)
