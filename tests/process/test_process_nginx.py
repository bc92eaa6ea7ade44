"""A real nginx with the configuration we ship, before a real relay: two devices share a folder through it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from p2psync.net.punch import LocalPort
from p2psync.net.urls import parse_relay_url
from p2psync.seams import SystemRandomness
from p2psync.session.greeting import observed_address
from tests.support.folders import shared_folder
from tests.support.web import WebIdentity, make_web_identity

SITE = Path(__file__).parents[2] / "deploy" / "nginx.conf"


def shipped_site(identity: WebIdentity, port: int, relay_port: int) -> str:
    """The file in deploy/ with this machine's names in it, and nothing else changed."""
    text = SITE.read_text()
    for old, new in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/letsencrypt/live/relay.example.org/fullchain.pem", str(identity.certificate)),
        ("/etc/letsencrypt/live/relay.example.org/privkey.pem", str(identity.key)),
        ("https://127.0.0.1:22443", f"https://127.0.0.1:{relay_port}"),
    ):
        text, count = re.subn(re.escape(old), new, text)
        assert count
    return text


@contextmanager
def running_nginx(directory: Path, identity: WebIdentity, listener: socket.socket, relay_port: int) -> Iterator[None]:
    """It takes over a socket that listens already, as from an older nginx: whoever dials before it is ready waits."""
    port: int = listener.getsockname()[1]
    for name in ("body", "proxy", "fastcgi", "uwsgi", "scgi"):
        (directory / name).mkdir(parents=True)
    paths = "\n".join(
        f"{what}_temp_path {directory / name};"
        for what, name in (
            ("client_body", "body"), ("proxy", "proxy"), ("fastcgi", "fastcgi"), ("uwsgi", "uwsgi"), ("scgi", "scgi"),
        )
    )  # fmt: skip
    configuration = directory / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    configuration.write_text(
        f"{user} daemon off; pid {directory}/pid; error_log {directory}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{paths}\n{shipped_site(identity, port, relay_port)}\n}}\n"
    )
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            ["nginx", "-p", str(directory), "-c", str(configuration)], stderr=output,
            env=os.environ | {"NGINX": f"{listener.fileno()};"}, pass_fds=[listener.fileno()],
        )  # fmt: skip
    listener.close()  # should nginx end, dialling fails instead of waiting for nobody
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(20) == 0, (directory / "output").read_text()


@pytest.mark.slow
def test_two_devices_share_through_nginx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx-light)")
    identity = make_web_identity(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(identity.authority))
    listener, content = socket.create_server(("127.0.0.1", 0)), os.urandom(2_000_000)
    public = f"wss://127.0.0.1:{listener.getsockname()[1]}/p2psync"
    with listener, shared_folder(tmp_path, "--public-url", public) as folder:
        assert folder.url.startswith(public + "#")
        with running_nginx(tmp_path / "nginx", identity, listener, folder.port):
            (folder.root("a") / "big").write_bytes(content)
            folder.share()
            folder.join()
            folder.sync()
            assert (folder.root("b") / "big").read_bytes() == content
            (folder.root("b") / "back").write_text("and back")
            folder.sync()
            assert (folder.root("a") / "back").read_text() == "and back"
            trio.run(the_relay_sees_through_nginx, folder.url)


async def the_relay_sees_through_nginx(url: str) -> None:
    """A device behind a NAT can learn its outside address and port through the web server."""
    with LocalPort() as local:
        asked = observed_address(parse_relay_url(url), connector=local, randomness=SystemRandomness())
        async with asked as seen:
            assert seen == ("127.0.0.1", local.port)
