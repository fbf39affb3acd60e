# A server and a client of the library `websockets`: `PORT [CERT KEY]`, or `ask URL TUNNELS [CA]`.
import asyncio
import os
import ssl
import sys

import websockets


async def answer(socket, path):
    if path == "/close":
        await socket.close(4001, "bye")
    elif path == "/ping":
        await (await socket.ping(b"of the server"))
        await socket.send("ponged")
    else:
        async for message in socket:
            await socket.send(message)


async def serve(port, files):
    context = None
    if files:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
    async with websockets.serve(answer, "127.0.0.1", port, ssl=context, max_size=None, backlog=1024):
        await asyncio.Future()


async def ask(url, tunnels, files):
    context = ssl.create_default_context(cafile=files[0]) if files else None

    def connect(path, **more):
        return websockets.connect(url + path, ssl=context, max_size=None, open_timeout=60, **more)

    for compression in ("deflate", None):
        async with connect("/echo", compression=compression) as socket:
            large = os.urandom(1 << 20)
            for message in ("text: \u00e4\u20ac", b"\x00\xff", "", b"", large, large.hex()):
                await socket.send(message)
                assert await socket.recv() == message
            await socket.send(["frag", "ment", "ed"])
            assert await socket.recv() == "fragmented"
            await socket.send([large, large])
            assert await socket.recv() == large + large
            await asyncio.wait_for(await socket.ping(b"of the client"), 30)
            await socket.close(4002, "enough")
            assert (socket.close_code, socket.close_reason) == (4002, "enough")
    async with connect("/ping") as socket:
        assert await socket.recv() == "ponged"
    async with connect("/close") as socket:
        await socket.wait_closed()
        assert (socket.close_code, socket.close_reason) == (4001, "bye")

    sockets = []
    for start in range(0, tunnels, 50):
        sockets += await asyncio.gather(*(connect("/echo", ping_interval=None) for _ in range(start, min(start + 50, tunnels))))
    print("open", flush=True)
    sys.stdin.readline()

    async def echo(i, socket):
        await socket.send(f"number {i}")
        assert await socket.recv() == f"number {i}"
        await socket.close()
        assert socket.close_code == 1000

    await asyncio.gather(*(echo(i, socket) for i, socket in enumerate(sockets)))
    print("done", flush=True)


if sys.argv[1] == "ask":
    asyncio.run(ask(sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
else:
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2:]))
