# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The public certificate of the edges: what Traefik and the ACME client are told, and when nothing of it is there."""

from __future__ import annotations

import dataclasses
import json
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from test_edge_configuration import ROLES, render, trusted

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "images" / "acme-client"))

from client import plan
from client.lego import Lego

ROOT = ROLES.parent
DIRECTORY = "https://acme.example/dir"
ACME: dict[str, t.Any] = {
    "edge_acme_directory": DIRECTORY,
    "edge_acme_email": "ops@example.com",
    "edge_acme_image": "registry/acme-client@sha256:" + "0" * 64,
    "edge_acme_members": ["n1", "n2"],
    "edge_acme_etcd": ["n1", "n2", "n3"],
    "etcd_acme_password": "made-up-password",
    "edge_backends": ["n1", "n2"],
}


def wanted(**settings: t.Any) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", render("edge", "{{ __edge_dynamic_wanted }}", **settings))


def seed(**settings: t.Any) -> list[dict[str, t.Any]]:
    return t.cast("list[dict[str, t.Any]]", render("edge", "{{ __edge_acme_seed }}", **settings))


def named(role_file: dict[str, t.Any]) -> list[str]:
    return [one["certFile"] for one in role_file["tls"].get("certificates", [])]


def test_without_it_nothing_is_different() -> None:
    plain = wanted(edge_backends=["n1"])
    assert plain == render("edge", "{{ __edge_dynamic }}", edge_backends=["n1"])
    assert named(plain) == ["/etc/dedicated/pki/edge/cert.pem"]
    assert render("edge", "{{ __edge_dynamic_directory }}")["mode"] == "0750"
    assert [one["path"] for one in render("edge", "{{ __edge_watch }}", edge_backends=["n1"])] == [
        "/etc/dedicated/pki/edge/cert.pem"
    ]


@pytest.mark.parametrize("challenge", ["http-01", "dns-01"])
def test_exactly_one_file_names_a_certificate(challenge: str) -> None:
    """Of two with the same name Traefik would serve now this one and now that."""
    settings = {**ACME, "edge_acme_challenge": challenge}
    assert named(wanted(**settings)) == []
    (only,) = seed(**settings)
    assert only["path"].startswith("conf/dynamic/")
    assert only["once"] is True, "from then on it is the client's"
    assert named(json.loads(only["content"])) == ["/etc/dedicated/pki/edge/cert.pem"]
    # A customer's own certificate serves until there is a public one.
    (own,) = seed(**settings, edge_certificate="CHAIN")
    assert named(json.loads(own["content"])) == ["/etc/traefik/own/cert.pem"]


def test_the_file_comes_before_the_one_that_no_longer_names_a_certificate() -> None:
    """stack_project lands by name; between the two there must be one."""
    (only,) = seed(**ACME)
    assert only["path"] < "conf/dynamic/odoo.yml"


def test_every_edge_passes_a_challenge_on_before_it_redirects() -> None:
    http = wanted(**ACME)["http"]
    router = http["routers"]["acme"]
    assert router["entryPoints"] == ["http"]
    assert router["rule"] == "(Host(`odoo.test`)) && PathPrefix(`/.well-known/acme-challenge/`)"
    assert [one["url"] for one in http["services"]["acme"]["loadBalancer"]["servers"]] == [
        "http://10.0.0.1:8402",
        "http://10.0.0.2:8402",
    ]
    assert http["middlewares"]["acme"]["retry"]["attempts"] >= 2
    redirection = render("edge", "{{ __edge_static | combine(__edge_acme_static, recursive=true) }}", **ACME)
    point = redirection["entryPoints"]["http"]["http"]["redirections"]["entryPoint"]
    assert point["to"] == "https"
    assert point["priority"] < router["priority"]


def test_by_dns_no_port_of_ours_is_involved() -> None:
    assert "acme" not in wanted(**{**ACME, "edge_acme_challenge": "dns-01"})["http"]["routers"]


def test_the_client_understands_what_it_is_told() -> None:
    told = render("edge", "{{ __edge_acme_client }}", **ACME)
    told = json.loads(json.dumps(told))
    settings = plan.Settings(**{**told["settings"], "domains": tuple(told["settings"]["domains"])})
    assert settings.directory == DIRECTORY
    lego = Lego(Path("/home"), **told["lego"])
    assert lego.listen == "10.0.0.1:8402"
    assert told["etcd"]["urls"] == [f"https://10.0.0.{number}:2379" for number in (1, 2, 3)]
    assert (told["etcd"]["user"], told["etcd"]["password"]) == ("acme", "made-up-password")
    assert told["edges"] == {name: f"{name}.test.internal" for name in ("n1", "n2")}


def test_defaults_are_those_of_the_client() -> None:
    told = render("edge", "{{ __edge_acme_client }}", **ACME)["settings"]
    for field in dataclasses.fields(plan.Settings):
        if field.default is not dataclasses.MISSING and field.name != "staging":
            assert (
                told[field.name] == pytest.approx(field.default, abs=1e-4)
                if isinstance(field.default, float)
                else (told[field.name] == field.default)
            )


def test_production_of_lets_encrypt_is_rehearsed_on_its_staging() -> None:
    production = "https://acme-v02.api.letsencrypt.org/directory"
    staging = render("edge", "{{ edge_acme_staging }}", edge_acme_directory=production)
    assert staging == "https://acme-staging-v02.api.letsencrypt.org/directory"
    assert render("edge", "{{ edge_acme_staging }}", edge_acme_directory=DIRECTORY) == ""


def missing(**settings: t.Any) -> list[str]:
    tasks = yaml.safe_load((ROLES / "edge" / "tasks" / "public.yml").read_text())
    own = {key: value for key, value in settings.items() if key != "strangers"}
    hosts = {
        name: {"dedicated_address": name, "edge_acme_directory": own.get("edge_acme_directory", "")}
        for name in ("n1", "n2", "n3")
        if name not in settings.get("strangers", ())
    }
    hosts |= {name: {"dedicated_address": name} for name in settings.get("strangers", ())}
    variables = {**tasks[0]["vars"], **own, "hostvars": hosts}
    return list(render("edge", "{{ __edge_acme_missing }}", **trusted(variables)))


def test_what_acme_needs_is_told_before_anything_is_touched() -> None:
    assert missing(**ACME) == []
    for name in ("edge_acme_image", "edge_acme_email", "etcd_acme_password"):
        (said,) = missing(**{**ACME, name: ""})
        assert name in said
    assert missing(**ACME, edge_certificate="CHAIN") == [], "it serves until there is a public one"
    assert "edge_acme_dns_provider" in missing(**ACME, edge_acme_challenge="dns-01")[0]
    by_dns = {"edge_acme_challenge": "dns-01", "edge_acme_dns_provider": "rfc2136"}
    assert missing(**ACME, **by_dns) == []
    assert "edge_acme_eab_hmac" in missing(**ACME, edge_acme_eab_kid="kid")[0]
    assert "for n3 " in missing(**ACME, strangers=("n3",))[0]


def test_the_container_is_given_what_its_contract_names() -> None:
    unit = render("edge", (ROLES / "edge" / "templates" / "acme.service.j2").read_text(), **ACME)
    contract = yaml.safe_load((ROOT / "images" / "acme-client" / "contract.yml").read_text())
    for path, about in contract["paths"].items():
        if path == "/tmp":
            assert "--tmpfs /tmp:" in unit
            continue
        (line,) = [line for line in unit.splitlines() if f"target={path}" in line]
        assert (",readonly" in line) == (about["mode"] == "ro"), path
    for word in ("--read-only", "--cap-drop ALL", "no-new-privileges", ACME["edge_acme_image"]):
        assert word in unit
    assert str(contract["uid"]) == render("edge", "{{ __edge_acme_uid }}")
    assert (
        str(contract["ports"]["challenge"])
        in wanted(**ACME)["http"]["services"]["acme"]["loadBalancer"]["servers"][0]["url"]
    )
    assert "made-up-password" not in unit


def test_the_firewall_lets_edges_in_only_with_acme() -> None:
    flows = "{{ firewall_flows + (__firewall_acme if __firewall_for_acme else []) }}"
    plain, acme = render("firewall", flows), render("firewall", flows, edge_acme_directory=DIRECTORY)
    assert [(one["from"], one["to"], one["ports"]) for one in acme[len(plain) :]] == [
        ("edge", "edge", [8402]),
        ("edge", "etcd", [2379]),
    ]
    assert acme[: len(plain)] == plain
    assert not [one for one in plain if one["ports"] == [8402]]


def test_who_has_which_certificate() -> None:
    variables = yaml.safe_load((ROOT / "playbooks" / "vars" / "certificates.yml").read_text())

    def names(**more: t.Any) -> list[str]:
        found = render("edge", "{{ __certificates_here }}", group_names=["edge"], **trusted(variables), **more)
        return [one["name"] for one in found]

    assert names() == ["edge-client", "edge"]
    assert names(edge_acme_directory=DIRECTORY) == ["edge-client", "edge", "edge-acme"]
    (own,) = [one for one in variables["__certificates_all"] if one["name"] == "edge-acme"]
    assert own["common_name"] == "", "etcd's gateway refuses named ones"
