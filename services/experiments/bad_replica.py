#!/usr/bin/env python3
"""One bad replica of two, of three and of five, nobody having written a policy, on this machine: `weft up` as shipped, replicas
that fail, are slow, do not answer or refuse connects, callers who know nothing of it, and a table of what came of it.

    bad_replica.py [--callers 4] [--think 0.05] [--seconds 75]

Everything runs on loopback addresses of its own (127.78.0.0/16 and 127.79.0.0/16), beside any other `weft up`, and is gone at
the end. WEFT says which binary to use [default: target/release/weft, else target/debug/weft].
"""

import argparse
import asyncio
import http.client
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOOR, ADMIN, PORT = ("127.78.0.1", 8080), ("127.78.3.1", 15000), 9000
WELL = [f"127.79.0.{number}" for number in range(1, 5)]
BAD = {"fails": "127.79.1.1", "slow": "127.79.1.2", "silent": "127.79.1.3", "refuses": "127.79.1.4"}
SIZES = (2, 3, 5)
# A caller gives up after so many seconds. The replicas are cured after so many.
PATIENCE, CURED = 5, 20

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: door}
spec: {gatewayClassName: weft, listeners: [{name: http, protocol: HTTP, port: 8080}]}
"""
SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{endpoints}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: door}}]
  rules: [{{matches: [{{path: {{value: /{name}}}}}], backendRefs: [{{name: {name}, port: 80}}]}}]
"""


class Replica:
    """Bad in its way until it is cured. Its answer is its address."""

    def __init__(self, address, way=None):
        self.address, self.way, self.server = address, way, None

    async def start(self):
        if self.way != "refuses":
            self.server = await asyncio.start_server(self.serve, self.address, PORT)

    async def cure(self):
        self.way = None
        if self.server is None:
            await self.start()

    async def serve(self, reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                status = "500 Internal Server Error" if self.way == "fails" else "200 OK"
                if self.way == "slow":
                    await asyncio.sleep(2)
                if self.way == "silent":
                    await reader.read()
                    return
                length = len(self.address)
                writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{self.address}".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class Service:
    def __init__(self, way, size):
        self.way, self.size, self.name = way, size, f"{way}-{size}"
        self.requests = self.errors = self.from_cured = 0
        self.longest = 0.0
        self.ejected = self.returned = self.cause = None

    def manifest(self):
        members = [BAD[self.way], *WELL[: self.size - 1]]
        endpoints = ", ".join(f"{{addresses: [{member}]}}" for member in members)
        return SERVICE.format(name=self.name, port=PORT, endpoints=endpoints)

    async def ask(self, connection):
        """One request; gives the connection back if it can be used again."""
        reader, writer = connection or await asyncio.open_connection(*DOOR)
        writer.write(f"GET /{self.name} HTTP/1.1\r\nhost: door\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
        body = await reader.readexactly(int(length.split(":")[1]))
        self.errors += not head.startswith("HTTP/1.1 200")
        self.from_cured += head.startswith("HTTP/1.1 200") and body.decode() == BAD[self.way]
        return reader, writer

    async def call(self, until, think):
        """A caller: asks, thinks, and asks again."""
        connection = None
        while time.monotonic() < until:
            began = time.monotonic()
            self.requests += 1
            try:
                connection = await asyncio.wait_for(self.ask(connection), PATIENCE)
            except (asyncio.TimeoutError, asyncio.IncompleteReadError, ConnectionError):
                connection = None
                self.errors += 1
            self.longest = max(self.longest, time.monotonic() - began)
            await asyncio.sleep(random.uniform(0, 2 * think))

    def look(self, cluster, at):
        bad = f"{BAD[self.way]}:{PORT}"
        for happening in cluster["happenings"]:
            if happening["endpoint"] == bad and happening["what"].startswith("ejected for") and self.ejected is None:
                self.ejected, self.cause = at, happening["what"]
            if happening["endpoint"] == bad and happening["what"].startswith("returned") and self.returned is None:
                self.returned = at
            if happening["endpoint"] != bad and happening["what"].startswith("ejected"):
                self.cause = f"A WELL ONE: {happening}"


def clusters():
    connection = http.client.HTTPConnection(*ADMIN, timeout=PATIENCE)
    connection.request("GET", "/clusters?format=json")
    said = json.load(connection.getresponse())
    connection.close()
    return said["clusters"]


async def watch(services, began):
    """Writes down who is ejected and who returns, and when."""
    while True:
        at = time.monotonic() - began
        for cluster in await asyncio.to_thread(clusters):
            for service in services:
                if f"||{service.name}." in cluster["name"]:
                    service.look(cluster, at)
        await asyncio.sleep(0.25)


async def ready(up, log):
    for _ in range(600):
        if up.returncode is not None:
            sys.exit(f"weft up ended:\n{log.read_text()}")
        try:
            reader, writer = await asyncio.open_connection(*DOOR)
            writer.write(b"GET /fails-2 HTTP/1.1\r\nhost: door\r\n\r\n")
            answer = await asyncio.wait_for(reader.readline(), 2)
            writer.close()
            if answer and b" 404 " not in answer:
                return
        except (OSError, asyncio.TimeoutError):
            pass
        await asyncio.sleep(0.2)
    sys.exit(f"the door is not open within two minutes:\n{log.read_text()}")


async def run(options, work):
    weft = os.environ.get("WEFT") or next(
        (str(found) for kind in ("release", "debug") if (found := ROOT / "target" / kind / "weft").exists()), None
    )
    if weft is None:
        sys.exit("there is no target/release/weft; build it (cargo build --release) or say where it is: WEFT=…")
    services = [Service(way, size) for way in BAD for size in SIZES]
    replicas = [Replica(address) for address in WELL] + [Replica(address, way) for way, address in BAD.items()]
    for replica in replicas:
        await replica.start()
    (work / "manifests").mkdir()
    manifests = GATEWAY + "".join(service.manifest() for service in services)
    (work / "manifests" / "all.yaml").write_text(manifests)
    log = work / "up.log"
    arguments = ["up", "--dir", work / "manifests", "--state", work / "state", "--pod-cidr", "127.78.0.0/16"]
    with log.open("wb") as output:
        up = await asyncio.create_subprocess_exec(weft, *arguments, "--bind", DOOR[0], stdout=output, stderr=output)
    try:
        await ready(up, log)
        began = time.monotonic()
        watching = asyncio.create_task(watch(services, began))
        callers = [
            asyncio.create_task(service.call(began + options.seconds, options.think))
            for service in services
            for _ in range(options.callers)
        ]
        await asyncio.sleep(CURED)
        for replica in replicas:
            await replica.cure()
        await asyncio.wait([watching, asyncio.gather(*callers)], return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
        watching.cancel()
    finally:
        if up.returncode is None:
            up.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(up.wait(), 20)
        except asyncio.TimeoutError:
            up.kill()
    return services


def table(services):
    print(f"{'one of':8}{'requests':>9}{'errors':>8}{'%':>7}{'longest/s':>11}{'ejected/s':>11}{'back/s':>8}{'then':>7}  cause")
    for service in services:
        share = 100 * service.errors / service.requests
        at = [f"{moment:.1f}" if moment is not None else "-" for moment in (service.ejected, service.returned)]
        print(
            f"{service.size} {service.way:8}{service.requests:7}{service.errors:8}{share:7.2f}{service.longest:11.2f}"
            f"{at[0]:>11}{at[1]:>8}{service.from_cured:7}  {service.cause}"
        )
    print(f"the replicas were cured after {CURED} s; \"then\" is what they answered from then on, or slowly before")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--callers", type=int, default=4, help="of each service")
    parser.add_argument("--think", type=float, default=0.05, help="seconds between an answer and the next question, on average")
    parser.add_argument("--seconds", type=float, default=75)
    with tempfile.TemporaryDirectory() as work:
        services = asyncio.run(run(parser.parse_args(), Path(work)))
    table(services)
    good = all(100 * s.errors < s.requests and s.ejected is not None and s.returned is not None for s in services)
    sys.exit(not good)


if __name__ == "__main__":
    main()
