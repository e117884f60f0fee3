# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL, Patroni, etcd and the backups: who gets in, and whether what is written is safe."""

from __future__ import annotations

import json
import typing as t

import boto3
import psycopg2
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from labtools import Failed, Host, Lab, unique, wait_until

PKI = "/etc/dedicated/pki"
ZSTD = b"\x28\xb5\x2f\xfd"


@pytest.fixture
def leader(lab: Lab) -> Host:
    return lab.leader()


def pgbackrest(lab: Lab, leader: Host, *words: str) -> str:
    stanza = f"--stanza={lab.variables['dedicated_cluster']}"
    return leader.inside("postgres", ["pgbackrest", stanza, *words], timeout=300).stdout


def test_the_application_role_can_do_no_more_than_its_work(leader: Host) -> None:
    roles = leader.sql(
        "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolcanlogin "
        "FROM pg_roles WHERE rolname = 'odoo'"
    )
    assert roles == [["f", "f", "f", "f", "f", "t"]]
    assert leader.sql("SELECT count(*) FROM pg_auth_members WHERE member = 'odoo'::regrole") == [["0"]]


def test_every_password_is_a_scram_hash(leader: Host) -> None:
    rows = leader.sql(
        "SELECT rolname, left(rolpassword, 14) FROM pg_authid WHERE rolcanlogin AND rolpassword IS NOT NULL"
    )
    assert {name for name, _ in rows} >= {"odoo"}
    assert {start for _, start in rows} == {"SCRAM-SHA-256$"}


def test_only_the_owner_connects_to_the_application_database(lab: Lab, leader: Host) -> None:
    rows = leader.sql(
        f"SELECT pg_get_userbyid(datdba), has_database_privilege('public', oid, 'CONNECT') "
        f"FROM pg_database WHERE datname = '{lab.database}'"
    )
    assert rows == [["odoo", "f"]]


def test_settings_that_keep_the_data(leader: Host) -> None:
    wanted = {
        "data_checksums": "on",
        "fsync": "on",
        "full_page_writes": "on",
        "archive_mode": "on",
        "ssl": "on",
        "ssl_min_protocol_version": "TLSv1.2",
        "password_encryption": "scram-sha-256",
        "wal_level": "replica",
        "pgaudit.log": "role,ddl",
    }
    names = ", ".join(f"'{name}'" for name in wanted)
    assert dict(leader.sql(f"SELECT name, setting FROM pg_settings WHERE name IN ({names})")) == wanted
    loaded = leader.sql("SHOW shared_preload_libraries")[0][0]
    assert {"pgaudit", "pg_stat_statements"} <= {name.strip() for name in loaded.split(",")}


def test_pgaudit_writes_down_what_changes_the_schema(leader: Host) -> None:
    role = unique("audit").replace("-", "_")
    leader.sql(f"CREATE ROLE {role}")
    leader.sql(f"DROP ROLE {role}")
    log = leader.run("docker logs --since 2m postgres 2>&1").stdout
    assert any("AUDIT:" in line and role in line for line in log.splitlines())


def probe(leader: Host, secret: str, **parameters: str) -> str:
    """What PostgreSQL says to a connection from the host itself, which the rules of access allow otherwise."""
    script = (
        "import json, os, psycopg2, sys\n"
        "try:\n"
        "    psycopg2.connect(password=os.environ['PROOF_PASSWORD'], **json.load(sys.stdin)).close()\n"
        "    print('connected')\n"
        "except psycopg2.OperationalError as error:\n"
        "    print(error)\n"
    )
    where = {"host": leader.address, "port": "5432", "dbname": "odoo", "user": "odoo", "connect_timeout": "10"}
    return leader.out(["python3", "-c", script], env={"PROOF_PASSWORD": secret}, stdin=json.dumps(where | parameters))


def test_postgres_wants_tls_a_certificate_and_the_password(lab: Lab, leader: Host) -> None:
    password = lab.secrets["odoo_db_password"]
    certificate = {"sslcert": f"{PKI}/postgres/cert.pem", "sslkey": "/run/proof-key.pem"}
    full = {"dbname": lab.database, "sslmode": "verify-full", "sslrootcert": f"{PKI}/ca.pem"}
    # libpq takes no key that belongs to somebody else.
    leader.run(f"install -m 0600 {PKI}/postgres/key.pem /run/proof-key.pem")
    try:
        # First that it works, so that each refusal below is for the one thing that lacks.
        assert probe(leader, password, **full, **certificate) == "connected"
        assert "no encryption" in probe(leader, password, **(full | {"sslmode": "disable"}), **certificate)
        none = {"sslcert": "/nonexistent", "sslkey": "/nonexistent"}
        assert "certificate" in probe(leader, password, **full, **none)
        assert "password authentication failed" in probe(leader, "wrong", **full, **certificate)
        for user in ("postgres", "pgbouncer"):
            assert "pg_hba.conf" in probe(leader, password, **full, **certificate, user=user)
    finally:
        leader.run("rm -f /run/proof-key.pem")


def test_postgres_is_not_reached_from_outside(leader: Host) -> None:
    with pytest.raises(psycopg2.OperationalError, match="timeout expired"):
        psycopg2.connect(host=leader.address, port=5432, user="odoo", dbname="odoo", connect_timeout=3)


def curl(leader: Host, *words: str, certificate: str | None = "postgres", stdin: str = "") -> str:
    """The status code of a request on the host; the host's Python speaks it, as it has no curl."""
    script = (
        "import json, ssl, sys, urllib.error, urllib.request\n"
        "ask = json.load(sys.stdin)\n"
        "context = ssl.create_default_context(cafile='/etc/dedicated/pki/ca.pem')\n"
        "if ask['certificate']:\n"
        "    folder = '/etc/dedicated/pki/' + ask['certificate']\n"
        "    context.load_cert_chain(folder + '/cert.pem', folder + '/key.pem')\n"
        "data = ask['data'].encode() if ask['data'] else None\n"
        "request = urllib.request.Request(ask['url'], data=data, method=ask['method'])\n"
        "request.add_header('Content-Type', 'application/json')\n"
        "try:\n"
        "    print(urllib.request.urlopen(request, context=context, timeout=10).status)\n"
        "except urllib.error.HTTPError as error:\n"
        "    print(error.code)\n"
        "except (OSError, urllib.error.URLError) as error:\n"
        "    print(error)\n"
    )
    method, url = words
    ask = {"method": method, "url": url, "certificate": certificate, "data": stdin}
    return leader.out(["python3", "-c", script], stdin=json.dumps(ask))


def test_patroni_answers_everybody_and_obeys_only_who_knows_the_password(leader: Host) -> None:
    rest = f"https://{leader.address}:8008"
    assert curl(leader, "GET", f"{rest}/primary", certificate=None) == "200"
    for method, path, body in (
        ("PATCH", "/config", '{"ttl": 30}'),
        ("POST", "/restart", "{}"),
        ("POST", "/reload", "{}"),
        ("POST", "/switchover", '{"leader": "nobody"}'),
        ("DELETE", "/restart", ""),
    ):
        assert curl(leader, method, rest + path, stdin=body) == "401", f"{method} {path}"
        # Without a certificate the password would not help either.
        assert curl(leader, method, rest + path, stdin=body, certificate=None) in ("401", "403"), f"{method} {path}"


def test_patroni_does_not_tell_passwords(lab: Lab, leader: Host) -> None:
    script = (
        "import ssl, urllib.request as r\n"
        "c = ssl.create_default_context(cafile='/etc/dedicated/pki/ca.pem')\n"
        f"for path in ('/config', '/patroni', '/cluster'):\n"
        f"    print(r.urlopen('https://{leader.address}:8008' + path, context=c).read().decode())\n"
    )
    told = leader.out(["python3", "-c", script])
    assert "ttl" in told
    assert not [name for name, value in lab.secrets.items() if value in told]


def test_etcd_wants_a_certificate(lab: Lab) -> None:
    for host in lab.of("etcd"):
        url = f"https://{host.address}:2379/version"
        assert curl(host, "GET", url, certificate="etcd") == "200"
        refused = curl(host, "GET", url, certificate=None)
        # The alert, or the reset that overtakes it because the request was sent already; HTTP says nothing.
        assert any(word in refused.lower() for word in ("certificate required", "alert", "reset by peer")), refused


def test_wal_arrives_in_the_archive(leader: Host) -> None:
    before = leader.sql("SELECT archived_count, failed_count FROM pg_stat_archiver")[0]
    leader.sql("SELECT pg_create_restore_point('proof')")
    segment = leader.sql("SELECT pg_walfile_name(pg_switch_wal() - 1)")[0][0]

    def archived() -> bool:
        return leader.sql(f"SELECT last_archived_wal >= '{segment}' FROM pg_stat_archiver") == [["t"]]

    wait_until(f"{segment} is archived", archived, 60)
    row = leader.sql(
        "SELECT archived_count, failed_count, now() - last_archived_time < interval '2 minutes', "
        "last_failed_time IS NULL OR last_failed_time < last_archived_time FROM pg_stat_archiver"
    )[0]
    assert int(row[0]) > int(before[0])
    assert row[1] == before[1], "archiving failed just now"
    assert row[2:] == ["t", "t"]


def test_pgbackrest_check_and_info_are_clean(lab: Lab, leader: Host) -> None:
    pgbackrest(lab, leader, "check")
    stanza = json.loads(pgbackrest(lab, leader, "--output=json", "info"))[0]
    assert stanza["status"]["code"] == 0, stanza["status"]
    assert stanza["cipher"] == "aes-256-cbc"
    assert [backup for backup in stanza["backup"] if backup["type"] == "full" and not backup["error"]]


# --- the object store ---------------------------------------------------------------------------------------------


@pytest.fixture
def s3(lab: Lab) -> t.Any:
    """The store, with the credentials that lie on the hosts: what a burglar would have."""
    return boto3.client(
        "s3",
        endpoint_url=f"https://{lab.service_address(5)}:8333",
        verify=str(lab.build / "services-ca.pem"),
        aws_access_key_id=lab.secrets["backup_1_s3_key"],
        aws_secret_access_key=lab.secrets["backup_1_s3_key_secret"],
        region_name="lab",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}, proxies={}),
    )


def bucket(lab: Lab) -> str:
    return lab.bucket


def test_objects_of_the_repository_are_encrypted(lab: Lab, s3: t.Any) -> None:
    found = s3.list_objects_v2(Bucket=bucket(lab), Prefix="pgbackrest/1/")["Contents"]
    assert {key.split("/")[2] for key in (one["Key"] for one in found)} >= {"archive", "backup"}
    for one in found[:60]:
        start = s3.get_object(Bucket=bucket(lab), Key=one["Key"])["Body"].read(1 << 20)
        # Files bundled together are encrypted without a header; a compressed one in the clear would show its magic.
        assert ZSTD not in start, one["Key"]
        if start and "/bundle/" not in one["Key"]:
            assert start[:8] == b"Salted__", one["Key"]


def test_a_burglar_with_the_backup_credentials_cannot_delete_a_backup(lab: Lab, s3: t.Any) -> None:
    versions = s3.list_object_versions(Bucket=bucket(lab), Prefix="pgbackrest/1/archive/")["Versions"]
    victim = next(one for one in versions if one["Size"] and one["Key"].endswith(".zst"))
    where = {"Bucket": bucket(lab), "Key": victim["Key"], "VersionId": victim["VersionId"]}
    for attempt in ({}, {"BypassGovernanceRetention": True}):
        with pytest.raises(ClientError) as refusal:
            s3.delete_object(**where, **attempt)
        assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] in (403, 409)
    assert s3.get_object(**where)["Body"].read(8) == b"Salted__"


def test_a_burglar_cannot_loosen_the_lock(lab: Lab, s3: t.Any) -> None:
    rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    with pytest.raises(ClientError):
        s3.put_object_lock_configuration(Bucket=bucket(lab), ObjectLockConfiguration=rule)
    with pytest.raises(ClientError):
        s3.put_bucket_versioning(Bucket=bucket(lab), VersioningConfiguration={"Status": "Suspended"})
    with pytest.raises(ClientError):
        s3.delete_bucket(Bucket=bucket(lab))


def test_the_store_wants_a_key(lab: Lab) -> None:
    stranger = boto3.client(
        "s3",
        endpoint_url=f"https://{lab.service_address(5)}:8333",
        verify=str(lab.build / "services-ca.pem"),
        aws_access_key_id="nobody",
        aws_secret_access_key="wrong",
        region_name="lab",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, proxies={}),
    )
    with pytest.raises(ClientError) as refusal:
        stranger.list_objects_v2(Bucket=bucket(lab))
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_pgbackrest_believes_no_other_store(lab: Lab, leader: Host) -> None:
    """Its connection to the store is verified: with another CA it refuses."""
    stanza = f"--stanza={lab.variables['dedicated_cluster']}"
    words = ["pgbackrest", stanza, "--io-timeout=2", "--repo1-storage-ca-file=/etc/dedicated/pki/postgres/ca.pem"]
    words += ["repo-ls", "backup"]
    with pytest.raises(Failed, match="certificate"):
        leader.inside("postgres", words, timeout=120)
