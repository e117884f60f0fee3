# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every service takes a new certificate while users work, also when the run is killed; a wrong one is refused."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

from labtools import Host, Lab, run, wait_until
from operating import ROOT, begin, end, operate, recap, refusals, slay, users

REASON = ("-e", "reason=proof")
PKI = "/etc/dedicated/pki"
PORTS = {
    2379: "etcd",
    2380: "etcd",
    5432: "postgresql",
    8008: "patroni",
    6379: "redis",
    26379: "redis",
    8443: "https",
    443: "https",
}
LAYERS = {"redis": {6379, 26379}, "etcd": {2379, 2380}}
NAMES = ("etcd", "etcd-client", "postgres", "redis", "router", "edge", "edge-client")
# Twenty-one consumers, one after the other.
SECONDS = 1800


def ask(lab: Lab, host: Host, module: str, check: bool = True, **words: t.Any) -> dict[str, t.Any]:
    argv = [str(ROOT / ".venv/bin/ansible"), host.name, "-i", lab.data["inventory"], "--become", "-o",
            "-m", f"dedicated.odoo.{module}", "-a", json.dumps(words)]  # fmt: skip
    env = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_VAULT_PASSWORD_FILE": str(lab.build / "vault-password"),
    }
    output = run(argv, env, check=check).stdout
    return dict(json.loads(output[output.index("{") :]))


def served(lab: Lab) -> dict[tuple[str, int], str]:
    """The serial at every port of every host. Who wants a certificate of us has shown its own by then."""
    by_address = {host.address: host.name for host in lab.hosts}
    targets = [
        {"protocol": protocol, "host": host.address, "port": port, "server_name": lab.domain if port == 443 else ""}
        for host in lab.hosts
        for port, protocol in PORTS.items()
    ]
    found = ask(lab, lab.hosts[0], "certificate_info", targets=targets)
    assert not found["missing"], found["missing"]
    return {(by_address[one["host"]], one["port"]): one["serial"] for one in found["certificates"]}


def lying(lab: Lab) -> dict[tuple[str, str], str]:
    """The files' fingerprints, by host and name."""
    found = {}
    for host in lab.hosts:
        for name in NAMES:
            found[host.name, name] = host.out(f"sha256sum {PKI}/{name}/cert.pem {PKI}/{name}/key.pem")
    return found


def beside(lab: Lab) -> list[str]:
    said = [host.out(f"find {PKI}/.staged {PKI}/.former 2>/dev/null || true") for host in lab.hosts]
    return [line for text in said for line in text.splitlines()]


def pending(lab: Lab) -> list[str]:
    """What the next site.yml would reload or restart, by the files that it counts and the labels that it compares."""
    found = []
    for host in lab.hosts:
        for stack in ("etcd", "postgres", "redis", "router", "odoo", "edge"):
            home = f"/opt/dedicated/{stack}"
            if stack != "odoo":
                counted = ask(lab, host, "stack_project", name=stack, rewatch=True)
                found += [f"{host.name} {stack} {one}" for one in counted["pending_reloads"]]
                found += [f"{host.name} {stack} counted other files"] if counted["changed"] else []
            wanted = host.out(f"docker compose --project-directory {home} config --hash '*'").splitlines()
            there = host.out(
                f"docker ps --all --filter label=com.docker.compose.project={stack}"
                " --filter label=com.docker.compose.oneoff=False --format"
                """ '{{.Label "com.docker.compose.service"}} {{.Label "com.docker.compose.config-hash"}}'"""
            ).splitlines()
            if sorted(wanted) != sorted(there):
                found.append(f"{host.name} {stack}: {sorted(wanted)} {sorted(there)}")
    return found


def rotate(lab: Lab, *arguments: str) -> str:
    process = begin(lab, "rotate_certificates", *REASON, *arguments)
    output = end(lab, "rotate_certificates", process, SECONDS)
    assert process.returncode == 0, refusals(output) or output[-3000:]
    return output


def test_it_is_refused_without_a_reason_and_for_unknown_names(lab: Lab) -> None:
    for code, arguments in (("no-reason", ()), ("unknown-name", (*REASON, "-e", "layer=etcdd"))):
        output = operate(lab, "rotate_certificates", *arguments, fails=True)
        assert code in output, refusals(output)
        assert {counts["changed"] for counts in recap(output).values()} == {0}
    assert not beside(lab)


def test_a_wrong_pair_is_refused_before_anything_is_touched(lab: Lab, tmp_path: Path) -> None:
    host, wrong = lab.hosts[0], "/root/wrong"
    before = lying(lab)
    words = {"directory": f"{PKI}/redis", "staged": wrong, "reload": [["false"]]}
    try:
        host.run(f"install -d -m 0700 {wrong} && cp {PKI}/redis/*.pem {wrong} && cp {PKI}/etcd/key.pem {wrong}")
        assert ask(lab, host, "certificate_rotate", check=False, **words)["code"] == "wrong-key"
        host.run(f"cp {PKI}/etcd/cert.pem {wrong}")
        # Whole, and of our authority, but of a life that began earlier or later: only the names decide here.
        asked = {**words, "names": ["dns:nobody"], "shorter_lived": True}
        assert ask(lab, host, "certificate_rotate", check=False, **asked)["code"] == "missing-name"
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "80", "-subj", "/CN=wrong"]
        place = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
        run(["openssl", "req", "-x509", *kind, *place])
        for name in ("key.pem", "cert.pem"):
            host.run(f"cat >{wrong}/{name}", stdin=(tmp_path / name).read_text())
        assert ask(lab, host, "certificate_rotate", check=False, **words)["code"] == "wrong-chain"
        host.run(f"rm -rf {wrong}")
        assert ask(lab, host, "certificate_rotate", check=False, **words)["code"] == "nothing-staged"
    finally:
        host.run(["rm", "-rf", wrong])
    assert lying(lab) == before
    assert not beside(lab)


def test_who_does_not_take_it_keeps_the_former(lab: Lab) -> None:
    """The router is not told, so that it goes on serving the former one: which is brought back."""
    host = lab.hosts[0]
    before, serials = lying(lab), served(lab)
    staged = f"{PKI}/.staged/router"
    host.run(f"install -d -m 0700 {PKI}/.staged {staged} && cp -p {PKI}/router/*.pem {staged}")
    # The same pair would be served already: another of our authority, by the host's other key.
    host.run(f"cp {PKI}/etcd/cert.pem {PKI}/etcd/key.pem {staged}")
    endpoint = {"protocol": "https", "host": host.address, "port": 8443}
    try:
        answer = ask(lab, host, "certificate_rotate", check=False, directory=f"{PKI}/router", staged=staged,
                     endpoints=[endpoint], reload=[["true"]], timeout=5, shorter_lived=True)  # fmt: skip
    finally:
        host.run(["rm", "-rf", f"{PKI}/.staged"])
    assert (answer["code"], answer["rolled_back"]) == ("not-served", True), answer
    assert answer["before"]["serial"] == serials[host.name, 8443]
    assert served(lab) == serials
    # By content: owner and mode are the next run's of the role pki.
    assert lying(lab) == before


def test_everything_is_rotated_though_the_run_is_killed_and_nobody_notices(lab: Lab) -> None:
    before, files = served(lab), lying(lab)
    with users(lab):
        process = begin(lab, "rotate_certificates", *REASON)
        try:
            wait_until(
                "a member of PostgreSQL has a new one",
                lambda: (
                    process.poll() is not None
                    or any(
                        host.out(f"sha256sum {PKI}/postgres/cert.pem {PKI}/postgres/key.pem")
                        != files[host.name, "postgres"]
                        for host in lab.hosts
                    )
                ),
                900,
                1,
            )
            assert process.poll() is None, end(lab, "rotate_certificates", process)[-3000:]
        finally:
            slay(process)
        between = served(lab)
        done = {place for place, serial in between.items() if serial != before[place]}
        assert {port for _host, port in done} >= {2379, 2380}
        assert len(done) < len(before)
        output = rotate(lab)
    after = served(lab)
    assert not [place for place, serial in after.items() if serial == before[place]]
    # What was done was not done again.
    assert {place: after[place] for place in done if place[1] in (2379, 2380)} == {
        place: between[place] for place in done if place[1] in (2379, 2380)
    }
    assert not [place for place, text in lying(lab).items() if text == files[place]]
    assert "days left" in output
    assert not beside(lab)
    assert all(host.healthy() for host in lab.hosts)
    assert pending(lab) == []


def test_one_layer_alone(lab: Lab) -> None:
    before = served(lab)
    with users(lab):
        rotate(lab, "-e", "layer=redis")
    after = served(lab)
    changed = {place for place, serial in after.items() if serial != before[place]}
    assert changed == {place for place in before if place[1] in LAYERS["redis"]}
    assert pending(lab) == []
    assert not beside(lab)
