import asyncio
import sys

from websockets.asyncio.client import connect


async def main():
    address, uri, proxy = sys.argv[1:4]
    more = {"proxy": proxy} if proxy else {"proxy": None}
    if address:
        host, port = address.rsplit(":", 1)
        more |= {"host": host, "port": int(port)}
    async with connect(uri, subprotocols=["chat"], max_size=None, **more) as socket:
        print(await socket.recv(), socket.subprotocol)
        for turn in range(50):
            await socket.send(f"turn {turn}")
            assert await socket.recv() == f"turn {turn}"
        large = bytes(range(256)) * 8192
        await socket.send(large)
        assert await socket.recv() == large
        await (await socket.ping())
        print("echoed")
        await socket.close(4321, "done")
        print(socket.close_code, socket.close_reason)


asyncio.run(main())
