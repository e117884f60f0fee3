# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every port serves, asked as each protocol wants it: by certificate_info on the host, and judged by status."""

from __future__ import annotations

import contextlib
import datetime
import json
import sys
import typing as t
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID
from labtools import Host, Lab, run, wait_until

# Appended: that folder has a conftest of its own.
sys.path.append(str(Path(__file__).resolve().parents[1] / "ha"))

from operating import operate

ROOT = Path(__file__).resolve().parents[2]
PKI = "/etc/dedicated/pki"
# Port: how it is asked, whose certificate lies behind it, and whose a client shows.
PORTS = {
    5432: ("postgresql", "postgres", ""),
    8008: ("patroni", "postgres", ""),
    2379: ("etcd", "etcd", "etcd-client"),
    2380: ("etcd", "etcd", "etcd"),
    6379: ("redis", "redis", "redis"),
    26379: ("redis", "redis", "redis"),
    8443: ("https", "router", "edge-client"),
    443: ("https", "edge", ""),
}
CLOSED = 9
# Where an authority of ours says whether a certificate still holds: on the edge's own host.
OCSP_PORT = 2560
RESPONDER = x509.AuthorityInformationAccess(
    [
        x509.AccessDescription(
            AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(f"http://127.0.0.1:{OCSP_PORT}")
        )
    ]
)


def ports(lab: Lab) -> dict[int, tuple[str, str, str]]:
    """A host that is alone has no router for the edges of others."""
    return {port: one for port, one in PORTS.items() if port != 8443 or len(lab.of("odoo")) > 1}


def target(lab: Lab, host: Host, port: int, client: str) -> dict[str, t.Any]:
    protocol = PORTS[port][0] if port in PORTS else "tls"
    keys = {"client_cert": f"{PKI}/{client}/cert.pem", "client_key": f"{PKI}/{client}/key.pem"} if client else {}
    name = {"server_name": lab.domain} if port == 443 else {}
    return {"protocol": protocol, "host": host.address, "port": port, **keys, **name}


def ask(host: Host, lab: Lab, **words: t.Any) -> dict[str, t.Any]:
    argv = [str(ROOT / ".venv/bin/ansible"), host.name, "-i", lab.data["inventory"], "--become", "-o",
            "-m", "dedicated.odoo.certificate_info", "-a", json.dumps(words)]  # fmt: skip
    env = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_VAULT_PASSWORD_FILE": str(lab.build / "vault-password"),
    }
    output = run(argv, env).stdout
    return dict(json.loads(output[output.index("{") :]))


@pytest.fixture(scope="module")
def seen(lab: Lab) -> dict[str, t.Any]:
    """One question with all of them: with the client's certificate, without it, and where nobody listens."""
    host = lab.hosts[0]
    asked = [target(lab, host, port, client) for port, (_how, _whose, client) in ports(lab).items()]
    asked += [target(lab, host, port, "") for port, (_how, _whose, client) in ports(lab).items() if client]
    asked.append(target(lab, host, CLOSED, ""))
    return ask(
        host,
        lab,
        ca=f"{PKI}/postgres/ca.pem",
        targets=asked,
        files=sorted({f"{PKI}/{whose}/cert.pem" for _how, whose, _client in PORTS.values()}),
    )


def test_every_port_serves_what_lies_on_the_disk(lab: Lab, seen: dict[str, t.Any]) -> None:
    files = {one["path"]: one for one in seen["certificates"] if one["source"] == "file"}
    for port, (_how, whose, _client) in ports(lab).items():
        served = [one for one in seen["certificates"] if one["port"] == port and not one["code"]]
        assert served, f"{port}: {seen}"
        for one in served:
            assert one["verified"], f"{port}: {one['unverified_because']}"
            assert one["serial"] == files[f"{PKI}/{whose}/cert.pem"]["serial"], port
            assert 0 < one["days_left"] <= 90, port


def test_who_shows_no_certificate_is_turned_away(lab: Lab, seen: dict[str, t.Any]) -> None:
    codes = {one["port"]: one["code"] for one in [*seen["certificates"], *seen["missing"]] if one["code"]}
    turned_away = {port: "client_certificate_required" for port, (_how, _whose, client) in ports(lab).items() if client}
    assert codes == {**turned_away, CLOSED: "refused"}


def test_who_shows_a_strangers_certificate_is_turned_away(lab: Lab) -> None:
    """Signed by an authority of the same name, with another key; one of ours, for comparison, comes in."""
    host, place = lab.hosts[0], "/root/stranger"
    asking = {port: one for port, one in ports(lab).items() if one[2]}
    try:
        for name, signer in (("stranger", strangers_authority(lab)), ("own", authority_of(lab))):
            host.run(f"install -d -m 0700 {place}")
            for file, text in another_pair(lab, 30, 60, signer).items():
                host.run(f"cat >{place}/{name}.{file}", stdin=text)
        codes = {}
        for name in ("stranger", "own"):
            pair = {"client_cert": f"{place}/{name}.cert.pem", "client_key": f"{place}/{name}.key.pem"}
            asked = [{**target(lab, host, port, ""), **pair} for port in asking]
            found = ask(host, lab, targets=asked)
            codes[name] = {one["port"]: one["code"] for one in found["certificates"]}
    finally:
        host.run(["rm", "-rf", place])
    assert codes["stranger"] == dict.fromkeys(asking, "client_certificate_refused")
    assert codes["own"] == dict.fromkeys(asking, "")


def status(lab: Lab, *arguments: str) -> dict[str, t.Any]:
    """The report for programs; metrics are written beside it."""
    path = lab.build / "status-certificates.json"
    path.unlink(missing_ok=True)
    argv = [str(ROOT / ".venv/bin/ansible-playbook"), str(ROOT / "playbooks/status.yml"), "-i", lab.data["inventory"],
            "-e", f"status_file={path}", "-e", f"status_metrics={path.with_suffix('.prom')}", *arguments]  # fmt: skip
    env = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_VAULT_PASSWORD_FILE": str(lab.build / "vault-password"),
    }
    done = run(argv, env, check=False, timeout=300)
    assert path.exists(), done.stdout[-3000:]
    return dict(json.loads(path.read_text()))


def about_certificates(found: dict[str, t.Any]) -> list[dict[str, str]]:
    return [one for one in found["findings"] if one["code"].startswith(("certificate", "served"))]


def authority_of(lab: Lab) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    pki = lab.build / "pki"
    secret = lab.secrets["pki_ca_passphrase"].encode()
    key = serialization.load_pem_private_key((pki / "ca.key").read_bytes(), secret)
    return x509.load_pem_x509_certificate((pki / "ca.pem").read_bytes()), t.cast("ec.EllipticCurvePrivateKey", key)


def strangers_authority(lab: Lab) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Of the same name as the lab's own."""
    own, _key = authority_of(lab)
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(own.subject)
        .issuer_name(own.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(own.not_valid_before_utc)
        .not_valid_after(own.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(own.extensions.get_extension_for_class(x509.KeyUsage).value, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made, key


def another_pair(
    lab: Lab,
    days: float,
    life: float,
    signer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
    *more: x509.ExtensionType,
) -> dict[str, str]:
    """A pair for the edge, signed by the lab's own authority, or another."""
    ca, signing = signer or authority_of(lab)
    key = ec.generate_private_key(ec.SECP256R1())
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    begun = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, lab.domain)]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - datetime.timedelta(days=life))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(lab.domain)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(t.cast("ec.EllipticCurvePublicKey", ca.public_key())),
            critical=False,
        )
    )
    for one in more:
        begun = begun.add_extension(one, critical=False)
    made = begun.sign(signing, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {"cert.pem": made.public_bytes(serialization.Encoding.PEM).decode(), "key.pem": private.decode()}


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def answer_for(host: Host, authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey], leaf: str) -> None:
    """A responder that knows this one certificate, until it is stopped or its host is gone."""
    key = authority[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = x509.load_pem_x509_certificate(leaf.encode())
    # openssl's own table of an authority: valid, its end, no revocation, its serial, no file, its name.
    line = f"V\t{made.not_valid_after_utc:%y%m%d%H%M%SZ}\t\t{made.serial_number:X}\tunknown\t/CN=proof\n"
    host.run(["mkdir", "-p", "/run/ocsp-proof"])
    for name, text in (("ca.pem", pem(authority[0])), ("ca.key", key.decode()), ("index", line)):
        host.run(f"cat > /run/ocsp-proof/{name}", stdin=text)
    words = f"openssl ocsp -port {OCSP_PORT} -index index -CA ca.pem -rsigner ca.pem -rkey ca.key -ndays 1"
    host.run(f"systemd-run --unit ocsp-proof --property WorkingDirectory=/run/ocsp-proof {words}")
    wait_until("the responder answers", lambda: str(OCSP_PORT) in host.out("ss -Hltn"), 15)


def stapled(lab: Lab, host: Host) -> str:
    ask_ = ["openssl", "s_client", "-connect", f"{host.address}:443", "-servername", lab.domain, "-status"]
    return host.run(["timeout", "10", *ask_], stdin="").stdout


def lay(host: Host, pair: dict[str, str]) -> None:
    """Into the files that are there: their owner and mode stay."""
    for name, text in pair.items():
        host.run(f"cat > {PKI}/edge/{name}", stdin=text)


def read_again(host: Host) -> None:
    host.inside("traefik", ["sh", "-c", "kill -HUP 1"])


@contextlib.contextmanager
def replaced(lab: Lab, host: Host, days: float, life: float) -> t.Iterator[None]:
    former = {name: host.run(["cat", f"{PKI}/edge/{name}"]).stdout for name in ("cert.pem", "key.pem")}
    try:
        lay(host, another_pair(lab, days, life))
        yield
    finally:
        lay(host, former)
        read_again(host)
        wait_until("nothing is said of certificates", lambda: not about_certificates(status(lab)), 120)


def test_a_healthy_lab_has_nothing_to_say_of_certificates(lab: Lab) -> None:
    found = status(lab)
    assert not about_certificates(found), found["findings"]
    seen = found["clusters"]["certificates"]["served"]
    assert {one["name"].rpartition(":")[2] for one in seen if one["host"] == lab.hosts[0].name} >= {
        str(port) for port in ports(lab)
    }
    text = (lab.build / "status-certificates.prom").read_text()
    assert text.count("dedicated_certificate_not_after_seconds{") == len(seen)


def test_a_service_that_has_not_taken_its_certificate_is_found(lab: Lab) -> None:
    host = lab.of("edge")[0]
    with replaced(lab, host, 80, 90):
        (told,) = about_certificates(status(lab))
    assert (told["code"], told["host"], told["severity"]) == ("certificate-not-served", host.name, "warning")
    assert f"rotate_certificates -e layer=edge -e host={host.name}" in told["do"]


def test_an_end_in_six_days_is_serious(lab: Lab) -> None:
    host = lab.of("edge")[0]
    with replaced(lab, host, 6.5, 90):
        read_again(host)

        def told() -> list[dict[str, str]]:
            return [one for one in about_certificates(status(lab)) if one["code"] == "certificate-due"]

        wait_until("it serves the new one, and status says so", lambda: bool(told()), 60)
        (one,) = told()
    assert (one["severity"], one["host"]) == ("critical", host.name)
    assert "6 d" in one["what"]
    assert "limit 7 d" in one["what"]


def test_a_customers_own_certificate_is_judged_served_and_given_back(lab: Lab, tmp_path: Path) -> None:
    authority = strangers_authority(lab)
    root = pem(authority[0])
    pair, other = (another_pair(lab, 60, 90, authority, RESPONDER) for _ in range(2))
    given, trust = tmp_path / "own.json", tmp_path / "root.pem"
    trust.write_text(root)
    edge = lab.of("edge")[0]
    began = edge.out("docker inspect --format '{{.State.StartedAt}}' traefik")

    def site(fails: bool = False, **words: str) -> str:
        given.write_text(json.dumps(words))
        return operate(lab, "site", "--tags", "edge", "-e", f"@{given}", fails=fails)

    words = {"edge_certificate": pair["cert.pem"] + root, "edge_certificate_ca": root}
    refused = site(fails=True, edge_certificate_key=other["key.pem"], **words)
    assert "wrong-key" in refused
    assert "PRIVATE KEY" not in refused
    assert lab.answers()
    answer_for(edge, authority, pair["cert.pem"])
    try:
        assert "PRIVATE KEY" not in site(edge_certificate_key=pair["key.pem"], **words)
        wait_until("the authority's word comes with it", lambda: "Cert Status: good" in stapled(lab, edge), 15)
        assert requests.get(f"{lab.url}/web/login", verify=str(trust), timeout=30).status_code == 200
        assert not lab.answers(), "the internal authority's is served, too"
        assert not about_certificates(status(lab, "-e", f"@{given}"))
    finally:
        edge.run(["systemctl", "stop", "ocsp-proof"])
        operate(lab, "site", "--tags", "edge")
    assert lab.answers()
    assert "no response sent" in stapled(lab, edge)
    # It was told each time, and never restarted.
    assert edge.out("docker inspect --format '{{.State.StartedAt}}' traefik") == began
    assert edge.run("ls /opt/dedicated/edge/conf/own").stdout == ""
