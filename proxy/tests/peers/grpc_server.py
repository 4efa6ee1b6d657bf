import sys
from concurrent import futures

import grpc


def unary(request, context):
    sent = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-begin", sent.get("x-ask", "none")),))
    context.set_trailing_metadata((("x-end", "yes"), ("x-binary-bin", b"\x00\x01\xff")))
    return request[::-1]


def large(request, context):
    return bytes(int(request))


def fail(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: 100% sure")


def bidi(requests, context):
    for request in requests:
        yield b"re:" + request
    context.set_trailing_metadata((("x-end", "yes"),))


METHODS = {
    "/shop.Orders/Unary": grpc.unary_unary_rpc_method_handler(unary),
    "/shop.Orders/Large": grpc.unary_unary_rpc_method_handler(large),
    "/shop.Orders/Fail": grpc.unary_unary_rpc_method_handler(fail),
    "/shop.Orders/Bidi": grpc.stream_stream_rpc_method_handler(bidi),
}


class Orders(grpc.GenericRpcHandler):
    def service(self, call):
        return METHODS.get(call.method)


server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((Orders(),))
if server.add_insecure_port(sys.argv[1]) == 0:
    sys.exit("cannot listen on " + sys.argv[1])
server.start()
print("ready")
server.wait_for_termination()
