# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public certificates by ACME: one edge asks, every edge serves, whoever dies or refuses in between.

The ACME server of the lab (Pebble) comes as one in the Internet would: by the virtual address, on port 80. Certificates
of it live for five years, so the share of the life at which one is renewed is set so that it is due after DUE_SECONDS.
No timer elapses: which edge looks, and when, is the word of the test. The tests belong together and run in this order.
"""

from __future__ import annotations

import base64
import collections.abc
import contextlib
import hashlib
import json
import secrets
import socket
import ssl
import time
import typing as t
from pathlib import Path

import pytest
import requests
from cryptography import x509
from labtools import Failed, Host, Lab, run, wait_until
from operating import begin, end, recap, refusals, unchanged
from test_28_members import etcdctl

UNIT = "dedicated-edge-acme"
SITE_SECONDS = 2400
# A rehearsal, an order, and their patience with half of all nonces refused.
LOOK_SECONDS = 900
LEASE_SECONDS = 60
DUE_SECONDS = 90
FIVE_YEARS = 157_766_400
# Of Pebble's own example.
KID, MAC = "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
SERVER, NAMESERVER = 6, 9  # the last part of their addresses
# Of nobody but this lab: who has it may write TXT records.
TSIG = base64.b64encode(secrets.token_bytes(32)).decode()


def acme(lab: Lab) -> str:
    return f"{lab.name}-acme"


def settings(lab: Lab, **more: t.Any) -> tuple[str, str]:
    domain = lab.domain.partition(".")[2]
    return "-e", json.dumps(
        {
            "edge_acme_directory": f"https://acme.{domain}:14000/dir",
            # The same server, as an account of its own: what matters is who is asked first.
            "edge_acme_staging": f"https://{lab.service_address(SERVER)}:14000/dir",
            "edge_acme_email": "ops@example.com",
            "edge_acme_ca_file": str(lab.build / "services-ca.pem"),
            "edge_acme_renew_left": 1 - DUE_SECONDS / FIVE_YEARS,
            "edge_acme_jitter": 0.0,
            "edge_acme_weekly": 50,
            # Nobody looks by himself within a proof.
            "edge_acme_calendar": "yearly",
            **more,
        }
    )


def site(lab: Lab, *arguments: str, fails: bool = False) -> str:
    process = begin(lab, "site", *arguments)
    output = end(lab, "site", process, SITE_SECONDS)
    assert (process.returncode != 0) == fails, refusals(output) or output[-3000:]
    return output


def served(lab: Lab, host: Host) -> bytes:
    """What an edge serves, whoever has signed it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((host.address, 443), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=lab.domain) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""


def shown(lab: Lab, host: Host) -> str:
    return hashlib.sha256(served(lab, host)).hexdigest()


def roots(lab: Lab) -> str:
    url = f"https://{lab.service_address(SERVER)}:15000/roots/0"
    return requests.get(url, verify=str(lab.build / "services-ca.pem"), timeout=10).text


def trusted(lab: Lab, host: Host) -> bool:
    """Whether who trusts the ACME server's root, and nobody else, trusts this edge."""
    context = ssl.create_default_context(cadata=roots(lab))
    # What browsers do not insist on either.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        with (
            socket.create_connection((host.address, 443), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=lab.domain),
        ):
            return True
    except ssl.SSLCertVerificationError:
        return False


def look(host: Host) -> bool:
    """Let an edge look, and do what is due; whether it was content."""
    return host.run(["systemctl", "start", f"{UNIT}.service"], check=False, timeout=LOOK_SECONDS).returncode == 0


def said(host: Host) -> str:
    return host.out(f"journalctl --unit {UNIT}.service --no-pager --output cat | tail -n 40")


def prefix(lab: Lab) -> str:
    return f"/dedicated-acme/{lab.variables['dedicated_cluster']}/"


def attempts(lab: Lab) -> list[dict[str, t.Any]]:
    text = etcdctl(witness(lab), f"get --print-value-only {prefix(lab)}attempts").strip()
    return list(json.loads(text)) if text else []


def forget_failures(lab: Lab) -> None:
    """What an operator does who has mended the cause and does not want to wait (docs/howto/public-certificates.md)."""
    etcdctl(witness(lab), f"del {prefix(lab)}attempts")


def witness(lab: Lab) -> Host:
    """A member of etcd that is there."""
    for host in lab.of("etcd"):
        if host.run("true", check=False).returncode == 0:
            return host
    raise AssertionError("no host is there")


def holder(lab: Lab) -> str | None:
    """Who leads; null while etcd itself elects."""
    try:
        return etcdctl(witness(lab), f"get --print-value-only {prefix(lab)}holder").strip()
    except Failed:
        return None


def front(lab: Lab) -> Host:
    """The edge that the ACME server meets."""
    return next(host for host in lab.of("edge") if host.out(f"ip -o -4 address show to {lab.front}"))


def beside(lab: Lab) -> Host:
    """An edge that the ACME server does not meet."""
    return next(host for host in lab.of("edge") if host.name != front(lab).name)


def due(lab: Lab) -> None:
    """Until whatever is served is due: the life of a certificate begins when it was made, not when it was asked for."""
    newest = max(x509.load_der_x509_certificate(served(lab, host)).not_valid_before_utc for host in lab.of("edge"))
    time.sleep(max(0.0, newest.timestamp() + DUE_SECONDS + 5 - time.time()))


def taken(lab: Lab, host: Host, former: set[str]) -> None:
    wait_until(f"{host.name} serves another one", lambda: shown(lab, host) not in former, 15)


def spread(lab: Lab) -> set[str]:
    """What all edges serve when each has looked, and looked again for the copy that another has sealed for it."""

    def alike() -> bool:
        for host in lab.of("edge"):
            look(host)
        time.sleep(3)  # Traefik takes what changes at most every two seconds
        return len({shown(lab, host) for host in lab.of("edge")}) == 1

    wait_until("all edges serve the same", alike, 180)
    return {shown(lab, host) for host in lab.of("edge")}


@contextlib.contextmanager
def server_instead(lab: Lab, *words: str, folder: Path | None = None, asks: str = "") -> collections.abc.Iterator[None]:
    """Another ACME server under the same name and address; ``asks``: a DNS server."""
    usual, other = acme(lab), f"{lab.name}-acme-proof"
    image = run(["docker", "inspect", "--format", "{{.Config.Image}}", usual]).stdout.strip()
    run(["docker", "stop", "--time", "2", usual])
    argv = ["docker", "run", "--detach", "--name", other, "--label", f"dedicated.odoo.lab={lab.name}",
            "--network", lab.network, "--ip", lab.service_address(SERVER),
            "--network-alias", f"acme.{lab.domain.partition('.')[2]}",
            "--volume", f"{folder or lab.build / 'services' / 'acme'}:/etc/lab:ro", *words, image]  # fmt: skip
    if asks:
        argv += ["pebble", "-config", "/etc/lab/pebble.json", "-dnsserver", asks]
    try:
        run(argv)
        wait_until("it answers", lambda: listens(lab), 30)
        yield
    finally:
        run(["docker", "rm", "--force", other], check=False)
        run(["docker", "start", usual])
        wait_until("the usual one answers", lambda: listens(lab), 30)


def listens(lab: Lab) -> bool:
    with socket.socket() as plain:
        plain.settimeout(1)
        return plain.connect_ex((lab.service_address(SERVER), 14000)) == 0


def names(lab: Lab) -> tuple[str, str]:
    return "--add-host", f"{lab.domain}:{lab.front}"


@pytest.fixture(scope="module", autouse=True)
def clean(lab: Lab) -> collections.abc.Iterator[None]:
    """As the lab was: the internal certificate, no client, no timer."""
    internal = {shown(lab, host) for host in lab.of("edge")}
    yield
    site(lab)
    for host in lab.of("edge"):
        left = host.out(
            f"ls -d /etc/systemd/system/{UNIT}.* /opt/dedicated/edge-acme /etc/dedicated/pki/edge-acme"
            " /opt/dedicated/edge/conf/dynamic/acme.yml 2>/dev/null || true"
        )
        assert left == "", f"{host.name}: {left}"
        assert "8402" not in host.out("nft --stateless list table inet dedicated")
    assert {shown(lab, host) for host in lab.of("edge")} == internal
    assert unchanged(lab, recap(site(lab, "--tags", "edge")))


def test_what_is_missing_is_told_before_anything_is_touched(lab: Lab) -> None:
    for more, code in (
        ({"edge_acme_email": ""}, "edge_acme_email"),
        ({"edge_acme_challenge": "dns-01"}, "edge_acme_dns_provider"),
    ):
        output = site(lab, *settings(lab, **more), fails=True)
        assert code in output, refusals(output)
        assert {counts["changed"] for counts in recap(output).values()} == {0}


def test_it_is_issued_and_every_edge_serves_it(lab: Lab) -> None:
    internal = {shown(lab, host) for host in lab.of("edge")}
    site(lab, *settings(lab))
    everybody_has_looked(lab)
    if not attempts(lab) or attempts(lab)[-1]["result"] != "done":
        # Pebble refuses at random; lego repeats, and may still have had bad luck.
        forget_failures(lab)
    now = spread(lab)
    assert now != internal, said(lab.of("edge")[0])
    assert all(trusted(lab, host) for host in lab.of("edge"))
    assert [(one["kind"], one["result"]) for one in attempts(lab)] == [("rehearsal", "done"), ("order", "done")]
    assert holder(lab) == ""
    assert all(host.healthy() for host in lab.hosts)


def idle(host: Host) -> bool:
    return host.out(f"systemctl show --property ActiveState --value {UNIT}.service") in ("inactive", "failed")


def test_again_changes_nothing(lab: Lab) -> None:
    assert unchanged(lab, recap(site(lab, *settings(lab))))


def test_port_80_still_redirects(lab: Lab) -> None:
    for host in lab.of("edge"):
        answer = requests.get(
            f"http://{host.address}/web/login", headers={"Host": lab.domain}, allow_redirects=False, timeout=10
        )
        assert answer.is_redirect, answer.status_code
        assert answer.headers["Location"] == f"{lab.url}/web/login"
        # Nobody issues now, so nobody answers; and it is not redirected.
        challenge = requests.get(
            f"http://{host.address}/.well-known/acme-challenge/none",
            headers={"Host": lab.domain},
            allow_redirects=False,
            timeout=20,
        )
        assert challenge.status_code in (502, 504), challenge.status_code


def test_the_port_of_challenges_is_for_edges_only(lab: Lab) -> None:
    for host in lab.of("edge"):
        with socket.socket() as plain:
            plain.settimeout(2)
            assert plain.connect_ex((host.address, 8402)) != 0
        # From an edge it is refused at once: it is let through, and nobody listens.
        other = next(one for one in lab.of("edge") if one.name != host.name)
        ask = f"import socket; s = socket.socket(); s.settimeout(3); print(s.connect_ex(('{host.address}', 8402)))"
        assert other.out(["python3", "-c", ask]) == "111"


def test_renewed_while_another_edge_meets_the_challenge(lab: Lab) -> None:
    former = {shown(lab, host) for host in lab.of("edge")}
    due(lab)
    issuer = beside(lab)
    # The usual server might remember that the name is ours, and challenge nobody.
    with server_instead(lab, *names(lab)):
        assert look(issuer), said(issuer)
        taken(lab, issuer, former)
        assert spread(lab).isdisjoint(former)
        assert all(trusted(lab, host) for host in lab.of("edge"))


def test_keys_and_passwords_stay_where_they_belong(lab: Lab) -> None:
    """Not in etcd, not in the journal, not in a list of processes; and nobody else reads them."""
    password = lab.secrets["etcd_acme_password"]
    stored = etcdctl(witness(lab), f"get --prefix {prefix(lab)}")
    assert "PRIVATE KEY" not in stored
    for host in lab.of("edge"):
        journal = host.out(f"journalctl --unit {UNIT}.service --no-pager --output cat")
        assert journal
        assert password not in journal
        assert "PRIVATE KEY" not in journal
        modes = host.out(
            "stat -c '%a %u:%g %n' /opt/dedicated/edge-acme/conf/client.json /opt/dedicated/edge/conf/dynamic/acme.yml"
            " /var/lib/dedicated/edge-acme"
        ).splitlines()
        assert [line.rsplit(" ", 1)[0] for line in modes] == ["400 10065:10065", "440 10065:10060", "700 10065:10065"]


def test_who_has_the_clients_word_reads_nothing_but_its_own_keys(lab: Lab) -> None:
    env = {"ETCDCTL_USER": "acme", "ETCDCTL_PASSWORD": lab.secrets["etcd_acme_password"]}
    host = witness(lab)
    own = host.inside("etcd", ["etcdctl", "get", "--prefix", "--keys-only", prefix(lab)], env)
    assert prefix(lab) in own.stdout
    for other in ("/dedicated/", "/dedicated-ops/"):
        done = host.inside("etcd", ["etcdctl", "get", "--prefix", "--keys-only", other], env, check=False)
        assert "permission denied" in done.stdout + done.stderr


def test_the_issuers_host_dies_in_the_middle_and_another_issues(lab: Lab) -> None:
    former = {shown(lab, host) for host in lab.of("edge")}
    due(lab)
    issuer = beside(lab)
    others = [host for host in lab.of("edge") if host.name != issuer.name]
    run(["docker", "pause", acme(lab)])
    try:
        issuer.run(["systemctl", "start", "--no-block", f"{UNIT}.service"])
        wait_until("it leads, and has begun", lambda: holder(lab) == issuer.name and began(lab), 60)
        run(["docker", "kill", "--signal", "KILL", issuer.container])
    finally:
        run(["docker", "unpause", acme(lab)])
    try:
        wait_until("etcd answers, and has its lease", lambda: holder(lab) == issuer.name, 30)
        assert look(others[0]), "another one leads, and that is no failure"
        # A new leader of etcd lets every lease begin anew.
        wait_until("the lease runs out", lambda: holder(lab) == "", 2 * LEASE_SECONDS + 20, 2)
        # What was cut off counts as a failure: it is waited, so that orders are bounded whoever dies.
        assert not look(others[0])
        assert "after-failure" in said(others[0])
        assert {shown(lab, host) for host in others} == former
        forget_failures(lab)
        assert look(others[0]), said(others[0])
        taken(lab, others[0], former)
    finally:
        run(["docker", "start", issuer.container])
    wait_until("its host is back", issuer.healthy, 300, 2)
    wait_until("everything is well", lambda: all(host.healthy() for host in lab.hosts), 300, 2)
    assert spread(lab).isdisjoint(former)


def began(lab: Lab) -> bool:
    return bool(attempts(lab)) and attempts(lab)[-1]["result"] == "open"


def test_no_acme_server_and_later_one(lab: Lab) -> None:
    former = {shown(lab, host) for host in lab.of("edge")}
    due(lab)
    issuer = beside(lab)
    run(["docker", "stop", "--time", "2", acme(lab)])
    try:
        assert not look(issuer)
        assert {shown(lab, host) for host in lab.of("edge")} == former
        assert lab.of("edge")[0].healthy()
        # It waits now, and so does everybody.
        asked = len(attempts(lab))
        assert not look(front(lab))
        assert len(attempts(lab)) == asked
    finally:
        run(["docker", "start", acme(lab)])
        wait_until("it answers", lambda: listens(lab), 30)
    forget_failures(lab)
    # It has forgotten us, as every Pebble that is started: we are registered anew.
    assert look(issuer), said(issuer)
    assert spread(lab).isdisjoint(former)
    assert all(trusted(lab, host) for host in lab.of("edge"))


def test_half_of_all_nonces_are_refused(lab: Lab) -> None:
    former = {shown(lab, host) for host in lab.of("edge")}
    due(lab)
    with server_instead(lab, *names(lab), "--env", "PEBBLE_WFE_NONCEREJECT=50"):
        renewed = False
        for _chance in range(3):
            # lego gives a request up after 20 s: rare, and then the former one serves on.
            renewed = look(beside(lab))
            if renewed:
                break
            assert {shown(lab, host) for host in lab.of("edge")} == former
            forget_failures(lab)
        assert renewed, said(beside(lab))
        assert spread(lab).isdisjoint(former)
        assert all(trusted(lab, host) for host in lab.of("edge"))


def test_an_order_is_refused_and_the_former_serves(lab: Lab) -> None:
    """The server does not find the name, as with a wrong record in DNS."""
    former = {shown(lab, host) for host in lab.of("edge")}
    due(lab)
    with server_instead(lab):
        issuer = beside(lab)
        assert not look(issuer)
        assert "order failed" in said(issuer)
        assert attempts(lab)[-1]["result"] == "failed"
        asked = len(attempts(lab))
        for host in lab.of("edge"):
            assert not look(host)
        assert len(attempts(lab)) == asked, "nobody asks again at once"
        assert {shown(lab, host) for host in lab.of("edge")} == former
    forget_failures(lab)
    assert look(beside(lab)), said(beside(lab))
    assert spread(lab).isdisjoint(former)


def test_a_server_that_wants_another_account_behind_ours(lab: Lab) -> None:
    """External account binding; the MAC key lies in the client's settings and is on no command line."""
    former = {shown(lab, host) for host in lab.of("edge")}
    folder = lab.build / "services" / "acme-bound"
    bind(lab.build / "services" / "acme", folder)
    site(lab, "--tags", "edge", *settings(lab, edge_acme_eab_kid=KID, edge_acme_eab_hmac=MAC))
    issuer = beside(lab)
    wait_until("it has looked", lambda: idle(issuer), LOOK_SECONDS, 2)
    due(lab)
    with server_instead(lab, *names(lab), folder=folder):
        forget_failures(lab)
        assert look(issuer), said(issuer)
        taken(lab, issuer, former)
        for host in lab.of("edge"):
            assert MAC not in said(host)


def test_dns_01_by_a_server_that_takes_updates(lab: Lab) -> None:
    """The record is written by lego's rfc2136 with a key, asked for by the ACME server, and gone afterwards."""
    zone = lab.domain.partition(".")[2]
    server = f"{lab.service_address(NAMESERVER)}:53"
    told: dict[str, t.Any] = {
        "edge_acme_challenge": "dns-01",
        "edge_acme_dns_provider": "rfc2136",
        "edge_acme_dns_environment": {
            "RFC2136_NAMESERVER": server,
            "RFC2136_TSIG_ALGORITHM": "hmac-sha256.",
            "RFC2136_TSIG_KEY": "acme",
            "RFC2136_TSIG_SECRET": TSIG,
        },
        "edge_acme_dns_resolvers": [server],
    }
    other = base64.b64encode(secrets.token_bytes(32)).decode()
    wrong = {**told, "edge_acme_dns_environment": {**told["edge_acme_dns_environment"], "RFC2136_TSIG_SECRET": other}}
    issuer = beside(lab)
    with nameserver(lab, zone) as updates:
        with server_instead(lab, asks=server):
            site(lab, *settings(lab, **told))
            everybody_has_looked(lab)
            former = {shown(lab, host) for host in lab.of("edge")}
            due(lab)
            made = len(updates())
            forget_failures(lab)
            assert look(issuer), said(issuer)
            taken(lab, issuer, former)
            assert trusted(lab, issuer)
            # Written and removed, for the rehearsal and for the order.
            assert len(updates()) == made + 4
            site(lab, "--tags", "edge", *settings(lab, **wrong))
            everybody_has_looked(lab)
        # A key that the name server does not take, and another ACME server: the first remembers that the name is ours.
        with server_instead(lab, asks=server):
            former = {shown(lab, host) for host in lab.of("edge")}
            due(lab)
            made = len(updates())
            forget_failures(lab)
            assert not look(issuer)
            assert "bad authentication" in said(issuer)
            assert len(updates()) == made
            assert {shown(lab, host) for host in lab.of("edge")} == former
    for host in lab.of("edge"):
        assert TSIG not in said(host)
        assert other not in said(host)


def everybody_has_looked(lab: Lab) -> None:
    """The run lets each edge look; who leads then may be any of them."""
    for host in lab.of("edge"):
        wait_until(f"{host.name} has looked", lambda host=host: idle(host), LOOK_SECONDS, 2)


@contextlib.contextmanager
def nameserver(lab: Lab, zone: str) -> collections.abc.Iterator[t.Callable[[], list[str]]]:
    """A DNS server with the site's name, which takes TXT records from who has TSIG; the updates that it made."""
    folder = lab.build / "services" / "dns"
    folder.mkdir(exist_ok=True)
    name, address = f"{lab.name}-dns-proof", lab.service_address(NAMESERVER)
    site_name = lab.domain.partition(".")[0]
    files = {
        "knot.conf": KNOT.format(zone=zone, secret=TSIG),
        "zone": ZONE.format(zone=zone, address=address, site=site_name, front=lab.front),
    }
    for file, text in files.items():
        (folder / file).write_text(text)
        (folder / file).chmod(0o644)
    image = run(["docker", "inspect", "--format", "{{.Config.Image}}", acme(lab)]).stdout.strip()
    argv = ["docker", "run", "--detach", "--name", name, "--label", f"dedicated.odoo.lab={lab.name}",
            "--network", lab.network, "--ip", address, "--network-alias", f"ns.{zone}",
            "--read-only", "--cap-drop", "ALL", "--tmpfs", "/tmp:mode=1777", "--tmpfs", "/run/knot:mode=1777",
            "--volume", f"{folder}:/etc/lab:ro", image, "knotd", "--config", "/etc/lab/knot.conf"]  # fmt: skip

    def log() -> list[str]:
        return run(["docker", "logs", name]).stdout.splitlines()

    try:
        run(argv)
        wait_until("it serves the zone", lambda: any("server started" in line for line in log()), 30)
        yield lambda: [line for line in log() if "DDNS, finished" in line]
    finally:
        run(["docker", "rm", "--force", name], check=False)


KNOT = """\
server:
    rundir: /run/knot
    listen: 0.0.0.0@53
database:
    storage: /run/knot
key:
  - id: acme
    algorithm: hmac-sha256
    secret: {secret}
acl:
  - id: records
    key: acme
    action: update
    update-type: TXT
zone:
  - domain: {zone}
    storage: /etc/lab
    file: zone
    acl: records
    zonefile-sync: -1
    journal-content: none
log:
  - target: stdout
    any: info
"""
ZONE = """\
$ORIGIN {zone}.
@ 60 IN SOA ns hostmaster 1 60 60 600 1
@ 60 IN NS ns
ns 60 IN A {address}
{site} 60 IN A {front}
"""


def bind(usual: Path, folder: Path) -> None:
    """Pebble's settings, and a known account of somebody else."""
    folder.mkdir(exist_ok=True)
    for name in ("cert.pem", "key.pem"):
        (folder / name).write_text((usual / name).read_text())
        (folder / name).chmod(0o644)
    told = json.loads((usual / "pebble.json").read_text())
    told["pebble"] |= {"externalAccountBindingRequired": True, "externalAccountMACKeys": {KID: MAC}}
    (folder / "pebble.json").write_text(json.dumps(told))
    (folder / "pebble.json").chmod(0o644)
