# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Traefik, HAProxy and keepalived are told, rendered by Ansible itself for each kind of topology."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.dedicated.odoo.plugins.filter.edge_http import edge_http

ROLES = Path(__file__).resolve().parents[3] / "roles"
ADDRESSES = {"n1": "10.0.0.1", "n2": "10.0.0.2", "n3": "10.0.0.3"}


def trusted(value: t.Any) -> t.Any:
    """Values of a role's files as Ansible itself would have loaded them."""
    if isinstance(value, dict):
        return {key: trusted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [trusted(one) for one in value]
    return trust_as_template(value) if isinstance(value, str) else value


def render(role: str, text: str, **settings: t.Any) -> t.Any:
    """A template with the variables of a role, on host n1 unless told otherwise."""
    variables: dict[str, t.Any] = {
        "inventory_hostname": "n1",
        "dedicated_cluster": "test",
        "dedicated_domain": "odoo.test",
        "dedicated_address": "10.0.0.1",
        "ansible_managed": "Managed by Ansible",
        "ansible_facts": {"processor_vcpus": 2},
        "hostvars": {name: {"dedicated_address": address} for name, address in ADDRESSES.items()},
    }
    for file in ("defaults", "vars"):
        variables |= trusted(yaml.safe_load((ROLES / role / file / "main.yml").read_text()))
    variables |= settings
    templar = Templar(loader=DataLoader(), variables=variables)
    # Ansible's own loader finds no filter of a collection whose modules Python has imported before.
    templar.environment.filters["dedicated.odoo.edge_http"] = edge_http
    return templar.template(trust_as_template(text))


def edge(*backends: str, **settings: t.Any) -> dict[str, t.Any]:
    return t.cast(
        "dict[str, t.Any]", render("edge", "{{ __edge_dynamic.http }}", edge_backends=list(backends), **settings)
    )


def servers(http: dict[str, t.Any], service: str) -> list[str]:
    return [one["url"] for one in http["services"][service]["loadBalancer"]["servers"]]


REMOTE = ["https://10.0.0.2:8443", "https://10.0.0.3:8443"]


@pytest.mark.parametrize(
    ("backends", "expected"),
    [
        (["n1"], ["http://127.0.0.1:8068"]),
        (["n1", "n2", "n3"], ["http://127.0.0.1:8068", *REMOTE]),
        (["n2", "n3"], REMOTE),
    ],
    ids=["alone", "all", "edge without Odoo"],
)
def test_every_odoo_is_served_and_only_the_own_one_without_tls(backends: list[str], expected: list[str]) -> None:
    http = edge(*backends)
    several = ["any-checked"] if len(backends) > 1 else []
    for service in ("odoo-checked", "websocket-checked", "page", *(several or ["any"])):
        assert servers(http, service) == expected


@pytest.mark.parametrize("backends", [["n1"], ["n1", "n2"]], ids=["alone", "pair"])
def test_the_hop_is_authenticated_when_there_is_one(backends: list[str]) -> None:
    transport = edge(*backends)["serversTransports"]["odoo"]
    assert ("rootCAs" in transport, "certificates" in transport) == ((len(backends) > 1,) * 2)
    assert "insecureSkipVerify" not in transport


@pytest.mark.parametrize("backends", [["n1"], ["n1", "n2"]], ids=["alone", "pair"])
def test_only_what_reads_is_sent_again(backends: list[str]) -> None:
    http = edge(*backends)
    retried = {name for name, router in http["routers"].items() if "again" in router.get("middlewares", ())}
    assert retried == (set() if len(backends) == 1 else {"read", "api", "integrations"})
    elsewhere = {name for name, router in http["routers"].items() if "elsewhere" in router.get("middlewares", ())}
    assert elsewhere == (set() if len(backends) == 1 else {"write", "login-write", "api-write", "integrations-write"})
    # By a status it would repeat what somebody got.
    assert http["middlewares"]["elsewhere"] == {"retry": {"attempts": 2}}
    assert http["routers"]["write"]["rule"].endswith("!(Method(`GET`) || Method(`HEAD`))")
    assert http["routers"]["write"]["priority"] > http["routers"]["read"]["priority"]


def test_no_service_turns_requests_away_because_all_checks_fail() -> None:
    services = edge("n1", "n2")["services"]
    for name in ("odoo", "websocket"):
        assert services[name] == {"failover": {"service": f"{name}-checked", "fallback": "any"}}
        assert "healthCheck" in services[f"{name}-checked"]["loadBalancer"]
    # Asks no worker: HAProxy answers by itself.
    assert services["any-checked"]["loadBalancer"]["healthCheck"]["path"] == "/dedicated/alive"
    assert "passiveHealthCheck" not in services["any-checked"]["loadBalancer"]
    # With no Odoo at all there is somebody who says so.
    assert services["any"] == {"failover": {"service": "any-checked", "fallback": "page"}}
    assert services["page"]["loadBalancer"]["healthCheck"]["status"] == 503


def test_the_only_odoo_is_always_tried() -> None:
    assert not {"healthCheck", "passiveHealthCheck"} & set(edge("n1")["services"]["any"]["loadBalancer"])


@pytest.mark.parametrize(("vip", "address"), [("", "10.0.0.1:443"), ("10.0.0.10/24", ":443")])
def test_with_a_virtual_address_the_edge_listens_on_all(vip: str, address: str) -> None:
    points = render("edge", "{{ __edge_static.entryPoints }}", edge_vip=vip)
    assert points["https"]["address"] == address
    assert points["local"]["address"] == "127.0.0.1:8082"


@pytest.mark.parametrize(("edges", "opened"), [([], False), (["n1"], False), (["n2"], True), (["n1", "n2"], True)])
def test_the_port_for_edges_is_open_only_where_an_edge_is_elsewhere(edges: list[str], opened: bool) -> None:
    template = (ROLES / "router" / "templates" / "haproxy.cfg.j2").read_text()
    text = render(
        "router",
        template,
        router_edge_members=edges,
        router_postgres_members=["n1"],
        router_redis_members=["n1"],
        router_redis_password="secret",
    )
    binds = [line.split() for line in text.splitlines() if line.strip().startswith("bind ") and "unix@" not in line]
    outside = [bind for bind in binds if not bind[1].startswith("127.0.0.1:")]
    assert [bind[1] for bind in outside] == (["10.0.0.1:8443"] if opened else [])
    assert all(bind[-4:-1] == ["verify", "required", "ca-file"] for bind in outside)
    assert ("http-request deny if { ssl_fc } !{ ssl_c_s_dn(CN) -m str edge-client }" in text) == opened


def vip(host: str, odoo: t.Sequence[str] = ()) -> str:
    template = (ROLES / "vip" / "templates" / "keepalived.conf.j2").read_text()
    return str(
        render(
            "vip",
            template,
            inventory_hostname=host,
            dedicated_address=ADDRESSES[host],
            vip_members=list(ADDRESSES),
            vip_address="10.0.0.10/24",
            __vip_interface="eth0",
            vip_company=list(odoo),
        )
    )


def test_an_edge_that_is_cut_off_gives_the_address_up() -> None:
    assert '"/usr/local/sbin/dedicated-edge-company 10.0.0.2:8443 10.0.0.3:8443"' in vip("n1", ["n1", "n2", "n3"])
    # Of two hosts nobody can tell which one is cut off.
    assert "company" not in vip("n1", ["n1", "n2"])
    # An edge without an Odoo of its own.
    assert "company 10.0.0.2:8443 10.0.0.3:8443" in vip("n1", ["n2", "n3"])


def value(text: str, word: str) -> str:
    return next(line.split(None, 1)[1] for line in text.splitlines() if line.strip().startswith(f"{word} "))


def test_edges_differ_in_nothing_but_who_they_are() -> None:
    texts = {host: vip(host) for host in ADDRESSES}
    assert len({value(text, "virtual_router_id") for text in texts.values()}) == 1
    priorities = [int(value(texts[host], "priority")) for host in ADDRESSES]
    assert priorities == sorted(set(priorities), reverse=True)
    for host, text in texts.items():
        peers = text.split("unicast_peer {")[1].split("}")[0].split()
        assert peers == [address for name, address in ADDRESSES.items() if name != host]
        assert value(text, "unicast_src_ip") == ADDRESSES[host]


def test_a_lost_edge_costs_at_most_two_seconds() -> None:
    """The time after which the last of the others takes over, by RFC 5798: three intervals and the skew."""
    text = vip("n3")
    interval, priority = float(value(text, "advert_int")), int(value(text, "priority"))
    assert 3 * interval + (256 - priority) / 256 * interval < 2


@pytest.mark.parametrize("cluster", ["test", "a", "production-7"])
def test_the_number_of_the_address_is_one_that_vrrp_knows(cluster: str) -> None:
    assert 1 <= int(render("vip", "{{ vip_router_id }}", dedicated_cluster=cluster)) <= 255


def test_routes_and_what_is_always_there_have_names_of_their_own() -> None:
    http = edge("n1", edge_routes={"partners": {"paths": ["/edi"]}})
    assert {"read", "write", "denied", "websocket", "local", "api", "api-write", "partners"} <= set(http["routers"])
    # What only this host may ask for is on no public entry point.
    assert [name for name, one in http["routers"].items() if one["entryPoints"] != ["https"]] == ["local"]
    assert http["routers"]["local"]["entryPoints"] == ["local"]
