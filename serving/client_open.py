"""From the address of a session to the places that answer it."""

from __future__ import annotations

import logging
from pathlib import Path

from serving.client_check import Description, check_same
from serving.client_grpc import Connection, GrpcEndpoint
from serving.client_local import LocalEndpoint
from serving.errors import ArtifactError, InvalidInput, ServerUnreachable, ServingError
from serving.retry import Endpoint, Verdict, verdict

log = logging.getLogger(__name__)

GRPC, LOCAL = "grpc://", "local:"


def open_places(
    url: str, fallback: str | None, model: str, version: str, connection: Connection
) -> tuple[list[Endpoint], Description]:
    """The places to ask, compared with each other, and what they serve.

    Args:
        url: "local:FOLDER", or servers with commas between them.
        fallback: "local:FOLDER" or `None`.
        model: name of the model.
        version: of the model; empty for the newest.
        connection: how to talk to servers.

    Raises:
        ServingError: no place answers, or they serve different artefacts.
    """
    if url.startswith(LOCAL):
        if fallback is not None:
            raise InvalidInput(f"fallback = {fallback!r} beside {url!r}; it is for servers")
        local = LocalEndpoint(_folder(url), model=model, version=version, timeout=connection.timeout)
        local.load()
        return [local], local.description
    servers = [GrpcEndpoint(target, model=model, connection=connection) for target in _targets(url)]
    try:
        description = _describe(servers, version, has_fallback=fallback is not None)
        endpoints: list[Endpoint] = list(servers)
        if fallback is not None:
            if description is not None and not description.checksum:
                raise ArtifactError(
                    f"{url} does not tell the checksum of model {model!r}; a fallback needs it: leave fallback out"
                )
            local = LocalEndpoint(
                _folder(fallback),
                model=model,
                version=description.metadata.versions[0] if description else version,
                timeout=connection.timeout,
                checksum=description.checksum if description else "",
                is_fallback=True,
            )
            if description is None:
                local.load()
                description = local.description
            endpoints.append(local)
        if description is None:
            raise ServerUnreachable(f"no server of {url} answered")
        for server in servers:
            server.expected = description
    except BaseException:
        for server in servers:
            server.close()
        raise
    return endpoints, description


def _describe(servers: list[GrpcEndpoint], version: str, *, has_fallback: bool) -> Description | None:
    """What the servers serve; one that does not answer is compared when it is first asked."""
    found: Description | None = None
    last: ServingError | None = None
    for server in servers:
        pinned = found.metadata.versions[0] if found is not None else version
        try:
            description = server.describe(pinned)
        except ServingError as error:
            if verdict(error) is Verdict.FINAL:
                raise
            log.warning("%s does not answer at the start: %s", server.name, error)
            last = error
            continue
        if found is not None:
            check_same(found, description, server.name)
        found = found or description
        server.is_verified = True
    if found is None and last is not None and not has_fallback:
        raise last
    return found


def _targets(url: str) -> list[str]:
    parts = [part.strip() for part in url.split(",")]
    targets = [part.removeprefix(GRPC) for part in parts]
    if not url.startswith(GRPC) or not all(map(_is_target, targets)):
        raise InvalidInput(f"url {url!r}; 'grpc://HOST:PORT[,grpc://HOST:PORT]' or 'local:FOLDER' is allowed")
    if len(set(targets)) < len(targets):
        raise InvalidInput(f"url {url!r} names a server twice")
    return targets


def _is_target(target: str) -> bool:
    """Whether it is HOST:PORT or unix:PATH; without a port gRPC would silently take 443."""
    host, _, port = target.rpartition(":")
    if host == "unix":
        return bool(port)
    return bool(host) and "/" not in host and port.isdecimal()


def _folder(url: str) -> Path:
    if not url.startswith(LOCAL) or url == LOCAL:
        raise InvalidInput(f"url {url!r}; 'local:FOLDER' is allowed")
    return Path(url.removeprefix(LOCAL))
