"""Is every document of stdin valid, and nothing in it unknown? Kinds that are nobody's but a CRD's are passed by, by name."""
import sys

import kubernetes_validate
import yaml

CUSTOM = ("gateway.networking.k8s.io", "networking.istio.io", "security.istio.io", "weft.dev")
version = kubernetes_validate.latest_version()
valid, wrong, passed = 0, 0, []

for document in yaml.safe_load_all(sys.stdin):
    if document is None:
        continue
    name = f"{document['kind']}/{document['metadata']['name']}"
    if document["apiVersion"].split("/")[0] in CUSTOM:
        passed.append(name)
        continue
    try:
        kubernetes_validate.validate(document, version, strict=True)
        valid += 1
    except Exception as error:
        wrong += 1
        print(name, "is not valid:", error)

print(valid, "valid by Kubernetes", version, "and", wrong, "not; passed by:", ", ".join(passed) or "none")
sys.exit(wrong > 0 or valid == 0)
