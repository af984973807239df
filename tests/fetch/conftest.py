"""Web servers on this machine, which no proxy stands before."""

import pytest
from local_server import Server


@pytest.fixture
def serve(monkeypatch):
    """A function that starts a `Server`; all are stopped at the end of the test."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers = []

    def start(content: bytes, *behaviours: str | int) -> Server:
        servers.append(Server(content, *behaviours))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
