import asyncio
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(connection):
    try:
        await connection.send("welcome to " + connection.request.path)
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass  # with whatever code the client chose


async def main():
    host, port = sys.argv[1].rsplit(":", 1)
    async with serve(echo, host, int(port), subprotocols=["chat"], max_size=None) as server:
        print("ready")
        await server.serve_forever()


asyncio.run(main())
