# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What anybody on the internet can reach: HTTPS and Odoo's own pages, nothing else."""

from __future__ import annotations

import concurrent.futures
import datetime
import http.client
import json
import socket
import ssl
import warnings
from pathlib import Path

import pytest
import requests
from labtools import Browser, Lab, run


def handshake(lab: Lab, context: ssl.SSLContext, name: str | None = None) -> ssl.SSLSocket:
    raw = socket.create_connection((lab.front, 443), timeout=10)
    return context.wrap_socket(raw, server_hostname=name or lab.domain)


def raw_request(lab: Lab, request: bytes, port: int = 443) -> http.client.HTTPResponse:
    """The answer to exactly these bytes; read before the request is complete where it has no end."""
    sock: socket.socket = socket.create_connection((lab.front, port), timeout=20)
    if port == 443:
        sock = lab.context().wrap_socket(sock, server_hostname=lab.domain)
    sock.sendall(request)
    answer = http.client.HTTPResponse(sock)
    answer.begin()
    return answer


def is_odoo(text: str) -> bool:
    return "odoo" in text.lower()


def test_login_page_with_a_certificate_that_verifies(lab: Lab) -> None:
    page = requests.get(f"{lab.url}/web/login", verify=lab.ca_file, timeout=30)
    assert page.status_code == 200
    assert 'name="csrf_token"' in page.text
    assert 'name="password"' in page.text


def test_the_certificate_is_not_taken_without_our_ca(lab: Lab) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{lab.url}/web/login", timeout=30)


def test_the_certificate_is_short_lived_and_for_this_name(lab: Lab) -> None:
    with handshake(lab, lab.context()) as sock:
        certificate = sock.getpeercert()
    assert certificate is not None
    assert ("DNS", lab.domain) in certificate["subjectAltName"]
    begin, end = (
        datetime.datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate[key])), datetime.UTC)
        for key in ("notBefore", "notAfter")
    )
    assert end - begin <= datetime.timedelta(days=91)
    assert end > datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=7)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_modern_tls_is_spoken(lab: Lab, version: ssl.TLSVersion) -> None:
    context = lab.context()
    context.minimum_version = context.maximum_version = version
    with handshake(lab, context) as sock:
        assert sock.version() == version.name.replace("_", ".")


def test_http_2_is_spoken(lab: Lab) -> None:
    context = lab.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with handshake(lab, context) as sock:
        assert sock.selected_alpn_protocol() == "h2"


# testssl.sh 3.0 gives no grade. What keeps one from A+ it finds: an old protocol, a weak cipher, a hole, a chain that
# does not verify, too short an HSTS. These are findings that no grade asks for.
HARMLESS = {
    "engine_problem",  # of its own OpenSSL
    "secure_renego",  # Go renegotiates nothing
    "cert_revocation",  # the internal authority's certificates are short-lived instead
    "DNS_CAArecord",  # of a public domain
    "TLS_session_ticket",  # Go's keys change daily, whatever lifetime is announced
}


def test_testssl_finds_nothing_that_costs_the_best_grade(lab: Lab, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    argv = ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--ip", lab.front, "--add-ca", lab.ca_file]
    argv += ["--protocols", "--std", "--fs", "--server-defaults", "--server-preference", "--headers", "--vulnerable"]
    run([*argv, "--jsonfile", str(report), f"{lab.url}/web/login"], check=False, timeout=300)
    found = {one["id"]: one for one in json.loads(report.read_text())}
    assert {name for name in ("SSLv3", "TLS1", "TLS1_1", "heartbleed", "ROBOT", "HSTS_time") if name in found} >= {
        "TLS1",
        "heartbleed",
        "HSTS_time",
    }
    assert found["cert_chain_of_trust"]["finding"].startswith("passed")
    bad = {name: one["finding"] for name, one in found.items() if one["severity"] not in ("OK", "INFO")}
    assert not {name: why for name, why in bad.items() if name.split(" ")[0] not in HARMLESS}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused_by_the_server(lab: Lab, version: ssl.TLSVersion) -> None:
    context = lab.context()
    # Our own library would not even offer it.
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    with pytest.raises(ssl.SSLError) as refusal:
        handshake(lab, context)
    assert refusal.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"  # an alert comes from the other side


def test_a_cipher_without_forward_secrecy_is_refused(lab: Lab) -> None:
    context = lab.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-GCM-SHA256:AES256-SHA:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA")
    with pytest.raises(ssl.SSLError) as refusal:
        handshake(lab, context)
    assert refusal.value.reason in ("SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV1_ALERT_HANDSHAKE_FAILURE")


@pytest.mark.parametrize("path", ["/", "/web/login?redirect=%2Fodoo", "/web/database/manager"])
def test_http_only_redirects_to_https(lab: Lab, path: str) -> None:
    answer = requests.get(f"http://{lab.domain}{path}", allow_redirects=False, timeout=10)
    assert answer.status_code in (301, 308)
    assert answer.headers["Location"] == lab.url + path
    assert "Set-Cookie" not in answer.headers


def test_an_unknown_name_gets_no_certificate(lab: Lab) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name in ("elsewhere.example", lab.front):
        with pytest.raises(ssl.SSLError) as refusal:
            handshake(lab, context, name)
        assert refusal.value.reason == "TLSV1_UNRECOGNIZED_NAME"  # the server's alert


def test_an_unknown_host_header_gets_no_odoo(lab: Lab) -> None:
    answer = raw_request(lab, b"GET /web/login HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n\r\n")
    assert answer.status in (404, 421)
    assert not is_odoo(answer.read().decode())


# docs/howto/edge-policy.md has the same table.
HEADERS = {
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=(self), payment=()",
}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/web/login", 200),
        ("GET", "/odoo", 303),
        ("GET", "/no-such-page", 404),
        ("POST", "/web/login", 400),
        ("GET", "/websocket", 400),
        ("GET", "/web/health", 403),
        ("GET", "/lab/partners", 403),
        ("POST", "/xmlrpc/2/common", None),
        ("POST", "/jsonrpc", None),
        ("POST", "/web/hook/no-such", None),
    ],
)
def test_security_headers_of_every_route(lab: Lab, method: str, path: str, status: int | None) -> None:
    answer = requests.request(method, lab.url + path, verify=lab.ca_file, allow_redirects=False, timeout=30)
    assert status in (None, answer.status_code)
    headers = answer.headers
    assert {name: headers.get(name) for name in HEADERS} == HEADERS
    assert "Server" not in headers
    assert "X-Powered-By" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/web/database/manager",
        "/web/database/selector",
        "/web/database/create",
        "/web/database/backup",
        "/web/database/list",
        "/web/health",
        # The same by other spellings: what Odoo would understand must not slip past the edge.
        "/web//database/manager",
        "/web/%64atabase/manager",
        "/web/x/../database/manager",
        "//web/database/manager",
        # A slash that only Odoo takes for one.
        "/web%2Fdatabase/manager",
        "/web%2fdatabase%2Fmanager",
        "/web%2Fhealth",
        "/web/database%2Fmanager",
        "/web%5Cdatabase/manager",
        "/web/database/manager%00",
        "/web/database;x/manager",
        # Below a language, where Odoo knows some.
        "/fr/web/database/manager",
        "/pt_BR/web/health",
        "/dedicated/page",
        "/dedicated/alive",
        "/dedicated%2Fpage",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_database_manager_and_health_are_closed(lab: Lab, method: str, path: str) -> None:
    # As raw bytes: a client would tidy the path up before it sends it.
    head = f"{method} {path} HTTP/1.1\r\nHost: {lab.domain}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    answer = raw_request(lab, head.encode())
    body = answer.read().decode(errors="replace")
    assert answer.status in (301, 308, 400, 403, 404), f"{answer.status} {body[:200]}"
    if answer.status in (301, 308):
        assert (answer.headers["Location"] or "").endswith("/web/database/manager")  # closed itself
    assert "master_pwd" not in body


@pytest.mark.parametrize("path", ["/web/database/manager", "/web/health"])
def test_the_refusal_is_the_edges_own(lab: Lab, path: str) -> None:
    answer = requests.get(lab.url + path, verify=lab.ca_file, timeout=10)
    assert answer.status_code == 403
    assert not is_odoo(answer.text)
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/dashboard/", "/dashboard", "/api/rawdata", "/api/version", "/ping", "/metrics"])
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_no_dashboard_and_no_metrics(lab: Lab, scheme: str, path: str) -> None:
    answer = requests.get(f"{scheme}://{lab.domain}{path}", verify=lab.ca_file, allow_redirects=False, timeout=30)
    assert answer.status_code in ((404,) if scheme == "https" else (301, 308)), answer.text[:200]
    assert "traefik" not in answer.text.lower()


def test_a_body_above_the_limit_is_refused_before_it_is_sent(lab: Lab) -> None:
    head = (
        f"POST /web/login HTTP/1.1\r\nHost: {lab.domain}\r\nContent-Type: application/octet-stream\r\n"
        f"Content-Length: {129 * 1024 * 1024}\r\n\r\n"
    )
    assert raw_request(lab, head.encode()).status == 413


def test_a_body_below_the_limit_arrives(lab: Lab) -> None:
    form = {"ufile": ("large.bin", b"x" * (20 * 1024 * 1024), "application/octet-stream")}
    answer = Browser(lab).post(f"{lab.url}/web/login", files=form, timeout=60)
    assert answer.status_code == 400, "refused below the limit"  # Odoo's answer: no CSRF token


def test_parallel_large_bodies_do_not_kill_the_edge(lab: Lab) -> None:
    """Together they are more than the edge's memory limit."""
    host = lab.of("edge")[0]
    state = "docker inspect --format '{{.RestartCount}} {{.State.OOMKilled}} {{.State.StartedAt}}' traefik"
    before, data = host.out(state), b"x" * (60 * 1024 * 1024)

    def upload(_number: int) -> int:
        # A form, which Odoo reads to its end before it misses the CSRF token. A body that it does not read it would
        # refuse by closing the connection, and whether the edge then still sees the answer is a race.
        form = {"ufile": ("large.bin", data, "application/octet-stream")}
        return Browser(lab).post(f"{lab.url}/web/login", files=form, timeout=180).status_code

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(upload, range(12)))
    assert host.out(state) == before
    assert set(answers) == {400}  # Odoo's own


def test_a_forged_forwarded_header_is_not_believed(lab: Lab) -> None:
    forged = {
        "X-Forwarded-Host": "elsewhere.example",
        "X-Forwarded-Proto": "http",
        "Forwarded": "host=elsewhere.example",
    }
    forged |= {"X_Forwarded_Host": "elsewhere.example"}
    answer = requests.get(f"{lab.url}/odoo", headers=forged, verify=lab.ca_file, allow_redirects=False, timeout=30)
    assert answer.status_code == 303
    assert "elsewhere.example" not in answer.headers["Location"] + answer.text
    assert not answer.headers["Location"].startswith("http://")


def test_the_session_cookie_is_for_https_and_not_for_scripts(lab: Lab) -> None:
    answer = requests.get(f"{lab.url}/web/login", verify=lab.ca_file, timeout=30)
    cookie = next(cookie for cookie in answer.cookies if cookie.name == "session_id")
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.secure


def test_database_listing_and_master_password_are_off(lab: Lab) -> None:
    browser = Browser(lab)
    body = {"jsonrpc": "2.0", "method": "call", "params": {"service": "db", "method": "list", "args": []}}
    answer = browser.post(f"{lab.url}/jsonrpc", json=body, timeout=30)
    assert answer.status_code != 200 or "error" in answer.json(), answer.text[:300]
    assert f'"{lab.database}"' not in answer.text
    body["params"] = {"service": "db", "method": "dump", "args": ["admin", lab.database, "zip"]}
    answer = browser.post(f"{lab.url}/jsonrpc", json=body, timeout=30)
    assert answer.status_code != 200 or "error" in answer.json(), answer.text[:300]
