#!/usr/bin/env python3
"""What a sidecar costs in a small and in a large cluster, while its workload calls five Services.

For 10 Services and for 2,000 with 20,000 endpoints: a control plane and a sidecar (`weft proxy --intercept`) in a network
namespace, nftables redirecting to it, five Services called twenty times each. Printed are the sidecar's resident memory, the
time until it was ready, what the control plane sent to it, the listeners that it holds and the size of its state file. Exits
with 1 when the large cluster costs more than a tenth more memory. Needs root, iproute2, nftables and util-linux.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("weft", nargs="?", type=Path, default="target/release/weft", help="the binary [%(default)s]")
WEFT = arguments.parse_args().weft.resolve()
if not WEFT.is_file():
    sys.exit(f"there is no {WEFT}; build it (cargo build --release) or say where it is")
NAMESPACE = f"weft-memory-{os.getpid()}"
USED = 5
RULES = """table inet weft {
  chain out {
    type nat hook output priority -100;
    meta skuid 1337 return
    oifname lo return
    meta l4proto tcp redirect to :15001
  }
}
"""


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def inside(*command):
    return ("ip", "netns", "exec", NAMESPACE, *command)


def vip(number):
    return f"10.96.{number // 250}.{number % 250 + 1}"


def manifests(services, endpoints_each):
    """The first five have their endpoint here; those of the others are nowhere."""
    for number in range(services):
        name = f"service-{number}"
        far = (f"10.{100 + number // 250}.{number % 250}.{one + 1}" for one in range(endpoints_each))
        addresses = ["10.99.0.1"] if number < USED else far
        yield (f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n"
               f"spec: {{clusterIP: {vip(number)}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n")
        yield (f"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
               f"metadata: {{name: {name}-1, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}\n"
               f"addressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints:\n"
               + "".join(f"  - addresses: [{address}]\n" for address in addresses))


def network():
    run("ip", "netns", "add", NAMESPACE)
    for line in ("link set lo up", "link add name eth0 type veth peer name far", "link set far up", "addr add 10.99.0.1/16 dev eth0",
                 "link set eth0 up", "route add default dev eth0"):
        run("ip", "-n", NAMESPACE, *line.split())
    run(*inside("nft", "-f", "-"), input=RULES)


def until(what, look, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    sys.exit(f"{what}: not after {seconds} s")


def curl(*args):
    return subprocess.run(inside("curl", "-s", "-m", "5", *args), capture_output=True, text=True).stdout


def resident_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def received_bytes():
    sockets = run(*inside("ss", "-tniH", "dst", "127.0.0.1:15010"))
    return max((int(n) for n in re.findall(r"bytes_received:(\d+)", sockets)), default=0)


def measure(services, endpoints_each):
    processes = []
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        directory.chmod(0o777)
        (directory / "manifests").mkdir()
        (directory / "manifests" / "all.yaml").write_text("---\n".join(manifests(services, endpoints_each)))
        state = directory / "state"

        def start(*command):
            process = subprocess.Popen(inside(*command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            processes.append(process)
            return process.pid

        try:
            start(sys.executable, "-m", "http.server", "--directory", str(directory / "manifests"), "8080")
            began = time.monotonic()
            start(WEFT, "control-plane", "--dir", str(directory / "manifests"))
            until("the control plane", lambda: "200" in curl("-o", "/dev/null", "-w", "%{http_code}", "127.0.0.1:15014/ready"))
            compiled = time.monotonic() - began
            began = time.monotonic()
            sidecar = start("setpriv", "--reuid", "1337", "--clear-groups", WEFT, "proxy", "--intercept", "--pod", "web-0",
                            "--address", "10.99.0.1", "--access-log", "off", "--workers", "2", "--state-file", str(state))
            until("the sidecar", lambda: "200" in curl("-o", "/dev/null", "-w", "%{http_code}", "127.0.0.1:15000/ready"))
            ready = time.monotonic() - began
            for _ in range(20):
                for number in range(USED):
                    code = curl("-o", "/dev/null", "-w", "%{http_code}", f"http://{vip(number)}/")
                    if code != "200":
                        sys.exit(f"service-{number} answers {code}")
            listeners = len(set(re.findall(r'"10\.96\.\d+\.\d+_80"', curl("127.0.0.1:15000/config_dump"))))
            until("the state file", lambda: state.exists() and time.time() - state.stat().st_mtime > 0.5)
            memory = resident_kib(sidecar)
            print(f"{services:5} Services, {services * endpoints_each:6} endpoints: sidecar {memory} KiB resident, "
                  f"ready after {ready:.2f} s, {received_bytes()} bytes pushed, {listeners} outbound listeners, "
                  f"state file {state.stat().st_size} bytes; control plane ready after {compiled:.2f} s, "
                  f"{resident_kib(processes[1].pid)} KiB", flush=True)
            return memory
        finally:
            for process in reversed(processes):
                process.kill()
                process.wait()


def main():
    try:
        network()
        small, large = measure(10, 10), measure(2000, 10)
    finally:
        run("ip", "netns", "del", NAMESPACE)
    print(f"{100 * (large - small) / small:+.1f} % memory in the large cluster")
    sys.exit(large > 1.1 * small)


main()
