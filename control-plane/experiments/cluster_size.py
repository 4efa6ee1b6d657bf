#!/usr/bin/env python3
"""What a large cluster costs its control plane, and one sidecar in it whose workload calls five Services.

A real API server (the tests' own, from target/peers/kubernetes or $WEFT_KUBERNETES_PROGRAMS) with 2,000 Services of ten endpoints
each; a control plane that watches it; a sidecar (`weft proxy --intercept`) with nftables redirecting to it. Printed are the time until the
control plane was ready and its memory, what was pushed to the sidecar, the time from an edit of an EndpointSlice until the
sidecar has it, and what edits of Services that it does not use cost both. Runs in a network namespace of its own. Needs
root, iproute2, nftables, openssl and util-linux.
"""

import argparse
import http.client
import json
import os
import re
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("weft", nargs="?", type=Path, default="target/release/weft", help="the binary [%(default)s]")
arguments.add_argument("services", nargs="?", type=int, default=2000, help="[%(default)s]")
arguments.add_argument("each", nargs="?", type=int, default=10, help="endpoints of each [%(default)s]")
arguments = arguments.parse_args()
WEFT, SERVICES, EACH = arguments.weft.resolve(), arguments.services, arguments.each
if not WEFT.is_file():
    sys.exit(f"there is no {WEFT}; build it (cargo build --release) or say where it is")
PROGRAMS = Path(os.environ.get("WEFT_KUBERNETES_PROGRAMS", "target/peers/kubernetes")) / "bin"
USED, EDITS, TOKEN = 5, 20, "experiment"
SLICES = "/apis/discovery.k8s.io/v1beta1/namespaces/default/endpointslices"
RULES = """table inet weft {
  chain out {
    type nat hook output priority -100;
    meta skuid 1337 return
    oifname lo return
    meta l4proto tcp redirect to :15001
  }
}
"""
KUBECONFIG = f"""apiVersion: v1
kind: Config
current-context: here
clusters: [{{name: here, cluster: {{server: "https://127.0.0.1:6443", insecure-skip-tls-verify: true}}}}]
users: [{{name: me, user: {{token: {TOKEN}}}}}]
contexts: [{{name: here, context: {{cluster: here, user: me}}}}]
"""
processes = []


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def start(directory, name, *command, env=None):
    with open(directory / f"{name}.log", "w") as log:
        processes.append(subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **(env or {})}))
    return processes[-1].pid


def until(what, look, seconds=300, every=0.02):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(every)
    sys.exit(f"{what}: not after {seconds} s")


def page(port, path, host="127.0.0.1"):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return opener.open(f"http://{host}:{port}{path}", timeout=10).read().decode()
    except (urllib.error.URLError, OSError):
        return ""


class Api:
    """One connection to the API server."""

    def __init__(self):
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        self.connection = http.client.HTTPSConnection("127.0.0.1", 6443, context=trusting, timeout=30)

    def ask(self, method, path, body=None, kind="application/json"):
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": kind}
        self.connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            sys.exit(f"{method} {path}: {answer.status} {text.decode()}")
        return text


def is_well():
    try:
        Api().ask("GET", "/api/v1/namespaces/default")
        return True
    except (OSError, http.client.HTTPException, SystemExit):
        return False


def vip(number):
    return f"10.96.{number // 250 + 1}.{number % 250 + 1}"


def addresses(number):
    """The first five have their endpoint here; those of the others are nowhere."""
    if number < USED:
        return ["10.99.0.1"]
    return [f"10.{100 + number // 250}.{number % 250}.{one + 1}" for one in range(EACH)]


def endpoints(number):
    return [{"addresses": [address], "conditions": {"ready": True}} for address in addresses(number)]


def create(numbers):
    api = Api()
    for number in numbers:
        name = f"service-{number}"
        api.ask("POST", "/api/v1/namespaces/default/services", {
            "metadata": {"name": name},
            "spec": {"clusterIP": vip(number), "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}})
        api.ask("POST", SLICES, {
            "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}}, "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints(number)})


def edit(api, number, extra):
    """One more endpoint, which is unready, so that no request goes there."""
    more = [{"addresses": [extra], "conditions": {"ready": False}}]
    api.ask("PATCH", f"{SLICES}/service-{number}-1", {"endpoints": endpoints(number) + more}, "application/merge-patch+json")


def network():
    for line in ("link set lo up", "link add name eth0 type veth peer name far", "link set far up", "addr add 10.99.0.1/16 dev eth0",
                 "link set eth0 up", "route add default dev eth0"):
        run("ip", *line.split())
    run("nft", "-f", "-", input=RULES)


def api_server(directory):
    (directory / "tokens.csv").write_text(f'{TOKEN},me,me,"system:masters"\n')
    (directory / "kubeconfig").write_text(KUBECONFIG)
    run("openssl", "genrsa", "-out", str(directory / "account.key"), "2048")
    start(directory, "etcd", PROGRAMS / "etcd", "--data-dir", directory / "etcd", "--unsafe-no-fsync")
    account = directory / "account.key"
    start(directory, "api", PROGRAMS / "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--secure-port=6443",
          "--bind-address=127.0.0.1", f"--cert-dir={directory / 'certificates'}", f"--token-auth-file={directory / 'tokens.csv'}",
          "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={account}",
          f"--service-account-signing-key-file={account}", "--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=RBAC",
          "--disable-admission-plugins=ServiceAccount", "--max-mutating-requests-inflight=2000")
    until("the API server", is_well, every=0.5)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, (range(first, SERVICES, 8) for first in range(8))))


def status(pid, field):
    return int(re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def cpu_ms(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def received_bytes():
    sockets = run("ss", "-tniH", "dst", "127.0.0.1:15010")
    return max((int(n) for n in re.findall(r"bytes_received:(\d+)", sockets)), default=0)


def took_ms(log, since=0):
    """What the control plane says of each configuration that went live."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text())
    return [float(ms) for ms in re.findall(r'configuration is live.*?took_ms"?[=:]\s*"?([0-9.]+)', text)][since:]


def measure(directory):
    log = directory / "control-plane.log"
    began = time.monotonic()
    plane = start(directory, "control-plane", WEFT, "control-plane", "--kubernetes", "--kubeconfig", directory / "kubeconfig",
                  env={"RUST_LOG": "info"})
    until("the control plane", lambda: page(15014, "/ready"))
    print(f"control plane: ready after {time.monotonic() - began:.2f} s, its first configuration took {took_ms(log)[-1]:.0f} ms, "
          f"{cpu_ms(plane):.0f} ms of CPU, {status(plane, 'VmRSS')} KiB resident, {status(plane, 'VmHWM')} KiB at most", flush=True)
    start(directory, "app", sys.executable, "-m", "http.server", "--directory", directory / "app", "8080")
    began = time.monotonic()
    start(directory, "sidecar", "setpriv", "--reuid", "1337", "--clear-groups", WEFT, "proxy", "--intercept", "--pod", "web-0",
          "--address", "10.99.0.1", "--access-log", "off", "--workers", "2", "--state-file", directory / "open" / "state")
    until("the sidecar", lambda: page(15000, "/ready"))
    ready = time.monotonic() - began
    for number in range(USED):
        until(f"service-{number}", lambda: page(80, "/", vip(number)))
    print(f"sidecar: ready after {ready:.2f} s, {received_bytes()} bytes pushed, {status(processes[-1].pid, 'VmRSS')} KiB resident; "
          f"control plane now {status(plane, 'VmRSS')} KiB", flush=True)
    edits(Api(), plane, log)


def edits(api, plane, log):
    used, live, before = [], len(took_ms(log)), received_bytes()
    for turn in range(EDITS):
        extra = f"10.250.0.{turn + 1}"
        began = time.monotonic()
        edit(api, turn % USED, extra)
        until(f"edit {turn}", lambda: extra in page(15000, "/clusters"), every=0.002)
        used.append((time.monotonic() - began) * 1000)
    print(f"{EDITS} edits of what it uses: at the sidecar after {statistics.median(used):.0f} ms (median; {max(used):.0f} at most), "
          f"{(received_bytes() - before) / EDITS:.0f} bytes each; compiled and published in "
          f"{statistics.median(took_ms(log, live)):.0f} ms", flush=True)
    live, before, cpu = len(took_ms(log)), received_bytes(), cpu_ms(plane)
    for turn in range(EDITS):
        edit(api, USED + turn, f"10.250.1.{turn + 1}")
        until(f"edit {turn}", lambda: len(took_ms(log)) > live + turn)
    print(f"{EDITS} edits of others: {(received_bytes() - before) / EDITS:.0f} bytes each, {(cpu_ms(plane) - cpu) / EDITS:.0f} ms of the "
          f"control plane's CPU each, compiled and published in {statistics.median(took_ms(log, live)):.0f} ms; "
          f"{status(plane, 'VmRSS')} KiB resident, {status(plane, 'VmHWM')} KiB at most", flush=True)


def main():
    if "WEFT_INSIDE" not in os.environ:
        os.execvpe("unshare", ["unshare", "--net", sys.executable, *sys.argv], {**os.environ, "WEFT_INSIDE": "1"})
    network()
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        directory.chmod(0o755)
        (directory / "app").mkdir()
        (directory / "open").mkdir()
        (directory / "open").chmod(0o777)
        try:
            api_server(directory)
            print(f"{SERVICES} Services, {USED + (SERVICES - USED) * EACH} endpoints", flush=True)
            measure(directory)
        finally:
            for process in reversed(processes):
                process.kill()
                process.wait()


main()
