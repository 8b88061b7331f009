"""The floor of an upload: one blocking loop of recv_into and write, 1 MiB at a time: floor_server.py PORT FILE."""

import socket
import sys


def serve(port: int, path: str) -> None:
    buffer = memoryview(bytearray(1 << 20))
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            client, _ = listener.accept()
            with client, open(path, "wb", buffering=0) as file:
                head = b""
                while b"\r\n\r\n" not in head:
                    piece = client.recv(4096)
                    if not piece:
                        break
                    head += piece
                if not head:
                    continue  # somebody only looked whether we listen
                head, _, body = head.partition(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                )
                left = length - file.write(body)
                while left and (count := client.recv_into(buffer[: min(left, len(buffer))])):
                    left -= file.write(buffer[:count])
                client.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
