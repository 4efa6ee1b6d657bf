import queue
import sys

import grpc

target, authority = sys.argv[1:3]
options = [
    ("grpc.default_authority", authority),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
]
channel = grpc.insecure_channel(target, options=options)

unary = channel.unary_unary("/shop.Orders/Unary")
reply, call = unary.with_call(b"hello", metadata=(("x-ask", "please"),), timeout=20)
trailers = dict(call.trailing_metadata())
print(reply.decode(), dict(call.initial_metadata())["x-begin"], trailers["x-end"], trailers["x-binary-bin"].hex())

print(len(channel.unary_unary("/shop.Orders/Large")(b"3000000", timeout=20)))

try:
    channel.unary_unary("/shop.Orders/Fail")(b"", timeout=20)
except grpc.RpcError as error:
    print(error.code().name, error.details())

try:
    channel.unary_unary("/shop.Orders/Missing")(b"", timeout=20)
except grpc.RpcError as error:
    print(error.code().name)

asked = queue.Queue()
replies = channel.stream_stream("/shop.Orders/Bidi")(iter(asked.get, None), timeout=20)
for turn in range(50):
    asked.put(str(turn).encode())
    assert next(replies) == b"re:" + str(turn).encode(), turn
asked.put(None)
assert list(replies) == []
print(replies.code().name, dict(replies.trailing_metadata())["x-end"])
