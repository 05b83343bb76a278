"""A service that does nothing, to measure what the client and the loopback cost: `python -m serve.latency.null PORT`.

It answers 200 to whatever it is sent, one connection at a time.
"""

import socket
import sys

from serve.latency.client import HOST

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"


def serve(port: int) -> None:
    """Answer connections, one after the other, until the process is ended."""
    with socket.create_server((HOST, port)) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # One request at a time and far below a segment's size: what arrives is a whole request.
                while connection.recv(65536):
                    connection.sendall(ANSWER)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
