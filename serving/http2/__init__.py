"""HTTP/2 (RFC 9113) for servers, in Python on asyncio: frames, windows and limits; it knows nothing of gRPC."""
