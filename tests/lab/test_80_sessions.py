# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions live in Redis: behind mutual TLS, each user with no more than it needs, and longer than an Odoo process."""

from __future__ import annotations

import json
import socket
import ssl

import pytest
from labtools import Browser, Host, Lab, unique, wait_until

PKI = "/etc/dedicated/pki/redis"
PREFIX = "odoo:session:"


@pytest.fixture
def master(lab: Lab) -> Host:
    for host in lab.of("redis"):
        if "role:master" in redis(lab, host, "admin", "INFO", "replication"):
            return host
    raise AssertionError("no Redis of this lab is a master")


def redis(lab: Lab, host: Host, user: str, *words: str, port: int = 6379) -> str:
    """What redis-cli prints, errors included; the password travels in the environment."""
    argv = ["redis-cli", "--tls", "--cacert", f"{PKI}/ca.pem", "--cert", f"{PKI}/cert.pem", "--key", f"{PKI}/key.pem"]
    argv += ["-h", host.address, "-p", str(port), "--user", user, "--no-auth-warning", *words]
    done = host.inside("redis", argv, env={"REDISCLI_AUTH": lab.secrets[f"redis_{user}_password"]}, check=False)
    return str(done.stdout + done.stderr).strip()


def keys_of(lab: Lab, host: Host, session: str) -> list[str]:
    """The keys under which Odoo may keep a session: it has a rotating part after the first 42 characters."""
    return redis(lab, host, "admin", "--scan", "--pattern", f"{PREFIX}{session[:42]}*").split()


def test_a_session_lives_in_redis_and_nowhere_else(lab: Lab, admin: Browser, master: Host) -> None:
    keys = keys_of(lab, master, admin.session_id)
    assert len(keys) == 1
    left = int(redis(lab, master, "admin", "TTL", keys[0]).split()[-1])
    assert 3600 < left <= 8 * 86400, "a session without end, or with hardly any time"
    for host in lab.of("odoo"):
        assert host.out("find /var/lib/dedicated/odoo/data/sessions -type f 2>/dev/null | wc -l") == "0"


def test_logging_out_removes_it(lab: Lab, admin: Browser, master: Host) -> None:
    old = admin.session_id
    assert keys_of(lab, master, old)
    assert admin.get(admin.at("/web/session/logout"), timeout=30).status_code == 200
    assert not keys_of(lab, master, old)
    thief = Browser(lab)
    thief.cookies.set("session_id", old, domain=lab.domain, path="/")
    assert "/web/login" in thief.get(thief.at("/odoo"), timeout=30).url


def test_a_session_survives_a_restart_of_odoo(lab: Lab, admin: Browser) -> None:
    before = admin.session_id
    for host in lab.of("odoo"):
        host.run("docker restart odoo-web", timeout=200)
    wait_until("the login page answers", lab.answers, 120)
    assert admin.whoami() == lab.login
    assert admin.session_id == before
    assert admin.get(admin.at("/odoo"), timeout=60, allow_redirects=False).status_code == 200


def test_what_odoo_may_do_in_redis(lab: Lab, master: Host) -> None:
    key = f"{PREFIX}{unique('proof')}"
    try:
        assert redis(lab, master, "odoo", "HSET", key, "a", "1") == "1"
        assert redis(lab, master, "odoo", "HGET", key, "a") == "1"
        assert redis(lab, master, "odoo", "EXPIRE", key, "60") == "1"
    finally:
        assert redis(lab, master, "odoo", "DEL", key) == "1"


@pytest.mark.parametrize(
    "command",
    [
        ["CONFIG", "GET", "*"],
        ["CONFIG", "SET", "dir", "/tmp"],
        ["KEYS", "*"],
        ["FLUSHALL"],
        ["FLUSHDB"],
        ["SHUTDOWN"],
        ["DEBUG", "SLEEP", "0"],
        ["ACL", "LIST"],
        ["EVAL", "return 1", "0"],
        ["REPLICAOF", "127.0.0.1", "1"],
        ["MODULE", "LIST"],
        ["MONITOR"],
        ["SAVE"],
        ["SET", "other:key", "1"],
        ["GET", "other:key"],
        ["HGETALL", "odoo:other"],
        ["PUBLISH", "channel", "x"],
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_what_odoo_may_not_do_in_redis(lab: Lab, master: Host, command: list[str]) -> None:
    said = redis(lab, master, "odoo", *command)
    assert "NOPERM" in said or "DEBUG command not allowed" in said


@pytest.mark.parametrize("user", ["router", "replication", "sentinel"])
def test_the_other_users_read_no_session(lab: Lab, admin: Browser, master: Host, user: str) -> None:
    key = keys_of(lab, master, admin.session_id)[0]
    for command in (["HGETALL", key], ["GET", key], ["DEL", key], ["KEYS", "*"], ["CONFIG", "GET", "*"]):
        assert "NOPERM" in redis(lab, master, user, *command), f"{user}: {command}"
    assert admin.whoami() == lab.login


def test_nobody_gets_in_without_a_password(lab: Lab, master: Host) -> None:
    argv = ["redis-cli", "--tls", "--cacert", f"{PKI}/ca.pem", "--cert", f"{PKI}/cert.pem", "--key", f"{PKI}/key.pem"]
    for port in ("6379", "26379"):
        said = master.inside("redis", [*argv, "-h", master.address, "-p", port, "INFO"], check=False).stdout
        assert "NOAUTH" in said


@pytest.mark.parametrize("port", [6379, 26379])
def test_redis_wants_tls_and_a_certificate(lab: Lab, master: Host, port: int) -> None:
    script = (
        "import json, socket, ssl, sys\n"
        "ask = json.load(sys.stdin)\n"
        "sock = socket.create_connection((ask['host'], ask['port']), timeout=5)\n"
        "try:\n"
        "    if ask['tls']:\n"
        "        context = ssl.create_default_context(cafile='/etc/dedicated/pki/ca.pem')\n"
        "        if ask['certificate']:\n"
        "            context.load_cert_chain('/etc/dedicated/pki/redis/cert.pem', '/etc/dedicated/pki/redis/key.pem')\n"
        "        sock = context.wrap_socket(sock, server_hostname=ask['host'])\n"
        # Whoever is refused and has said something may get a reset in place of the alert.
        "    if ask['certificate'] or not ask['tls']:\n"
        "        sock.sendall(b'PING\\r\\n')\n"
        "    print(sock.recv(100))\n"
        "except OSError as error:\n"
        "    print(error)\n"
    )

    def said(tls: bool, certificate: bool) -> str:
        ask = {"host": master.address, "port": port, "tls": tls, "certificate": certificate}
        return master.out(["python3", "-c", script], stdin=json.dumps(ask))

    assert "NOAUTH" in said(True, True)  # the same with a certificate is let through to the question for a password
    assert "CERTIFICATE_REQUIRED" in said(True, False).upper().replace(" ", "_")
    plain = said(False, False)
    assert "NOAUTH" not in plain
    assert "PONG" not in plain


def test_redis_is_not_reached_from_outside(lab: Lab, master: Host) -> None:
    for port in (6379, 26379):
        with pytest.raises((TimeoutError, ConnectionError, ssl.SSLError)):
            socket.create_connection((master.address, port), timeout=2)


def test_redis_never_drops_a_session_for_space(lab: Lab, master: Host) -> None:
    assert redis(lab, master, "admin", "CONFIG", "GET", "maxmemory-policy").split()[-1] == "noeviction"
    assert redis(lab, master, "admin", "CONFIG", "GET", "appendonly").split()[-1] == "yes"
