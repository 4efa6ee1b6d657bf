#!/bin/sh
# One gateway as a benchmark wants it: one worker, three prefix routes to one backend, metrics on, access log off,
# configured over xDS by a control plane that starts and ends with it.
# With `policy` also circuit breaking, outlier detection, retries under a budget and a rate limit on every request.
# usage: serve.sh WEFT DIR HTTP_PORT HTTPS_PORT BACKEND_PORT CERT KEY [policy]
set -eu
weft=$1 dir=$2/weft http=$3 https=$4 backend=$5 cert=$6 key=$7 policy=${8:-}
retry=
[ -z "$policy" ] || retry='retry: { codes: [503], attempts: 2 }'
rm -rf "$dir"
mkdir -p "$dir/manifests"
indent() { sed 's/^/    /' "$1"; }
cat > "$dir/manifests/bench.yaml" <<YAML
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: bench }
spec:
  gatewayClassName: weft
  listeners:
  - { name: http, protocol: HTTP, port: $http }
  - name: https
    protocol: HTTPS
    port: $https
    tls: { certificateRefs: [{ name: bench }] }
---
apiVersion: v1
kind: Secret
metadata: { name: bench }
type: kubernetes.io/tls
stringData:
  tls.crt: |
$(indent "$cert")
  tls.key: |
$(indent "$key")
---
apiVersion: v1
kind: Service
metadata: { name: backend }
spec:
  ports: [{ name: http, port: 80 }]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: backend-1, labels: { kubernetes.io/service-name: backend } }
addressType: IPv4
ports: [{ name: http, port: $backend }]
endpoints: [{ addresses: [127.0.0.1], conditions: { ready: true } }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: bench }
spec:
  parentRefs: [{ name: bench }]
  rules:
  - matches: [{ path: { type: PathPrefix, value: /static } }]
    backendRefs: [{ name: backend, port: 80 }]
    $retry
  - matches: [{ path: { type: PathPrefix, value: /auth } }]
    backendRefs: [{ name: backend, port: 80 }]
    $retry
  - matches: [{ path: { type: PathPrefix, value: /api } }]
    backendRefs: [{ name: backend, port: 80 }]
    $retry
YAML
[ -z "$policy" ] || cat > "$dir/manifests/policy.yaml" <<YAML
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: backend }
spec:
  host: backend
  trafficPolicy:
    connectionPool:
      tcp: { maxConnections: 1024 }
      http: { http1MaxPendingRequests: 1024, http2MaxRequests: 1024 }
    outlierDetection: { consecutive5xxErrors: 5, interval: 10s, baseEjectionTime: 30s, maxEjectionPercent: 50 }
    retryBudget: { percent: 20, minRetryConcurrency: 3 }
---
apiVersion: weft.dev/v1alpha1
kind: RateLimitPolicy
metadata: { name: bench }
spec:
  targetRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: bench }]
  limits: [{ name: all, requests: 1000000, per: 1s }]
  answer: { headers: false }
YAML
xds=127.0.0.1:$((http + 1000))
# Outside the measured process tree, and gone with it.
setsid "$weft" control-plane --dir "$dir/manifests" --xds "$xds" --monitoring "127.0.0.1:$((http + 1001))" \
    > "$dir/control-plane.log" 2>&1 &
control_plane=$!
gateway=$$
setsid sh -c "while kill -0 $gateway 2>/dev/null; do sleep 1; done; kill $control_plane" > /dev/null 2>&1 &
exec "$weft" gateway bench --control-plane "$xds" --workers 1 --access-log off --upgrade-socket "$dir/gateway.sock" \
    --admin "127.0.0.1:$((http + 1002))" --metrics "127.0.0.1:$((http + 1003))"
