# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attachments in the real object store, through two Odoo that share nothing but the database and the store.

Needs what test_guard.py needs, and the image object-store (tools/images build odoo postgres redis object-store):

    pytest images/odoo/tests/test_attachments.py
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import re
import secrets
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import boto3
import pytest
import urllib3
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from test_guard import CONF, PASSWORD, ROOT, Answer, Browser, Stack, address, clean, docker, sql, wait

STORE = "guardtest-objects"
NAME = "objects.guardtest.test"
BUCKET, PREFIX, KEEP_DAYS = "attachments", "guard/test", 30
KEYS = {"odoo": "secret-of-odoo", "admin": "secret-of-admin"}
S3_CONF = f"""
dedicated_attachment_s3_url = https://{NAME}:8333
dedicated_attachment_s3_bucket = {BUCKET}
dedicated_attachment_s3_region = lab
dedicated_attachment_s3_prefix = {PREFIX}
dedicated_attachment_s3_access_key = odoo
dedicated_attachment_s3_secret_key = {KEYS["odoo"]}
dedicated_attachment_s3_ca_file = /etc/odoo/s3-ca.pem
dedicated_attachment_s3_keep_days = {KEEP_DAYS}
"""


def certificates() -> dict[str, bytes]:
    now = datetime.datetime.now(datetime.UTC)

    def made(name: str, issuer: str, key: t.Any, signer: t.Any, *extensions: x509.ExtensionType) -> x509.Certificate:
        subject, by = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, each)]) for each in (name, issuer))
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(by).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.not_valid_after(now + datetime.timedelta(days=2)).sign(signer, hashes.SHA256())

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ski = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = made("test CA", "test CA", ca_key, ca_key, x509.BasicConstraints(ca=True, path_length=0), ski)
    aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)
    cert = made(NAME, "test CA", key, ca_key, x509.SubjectAlternativeName([x509.DNSName(NAME)]), aki)
    pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return {
        "ca.pem": ca.public_bytes(pem),
        "cert.pem": cert.public_bytes(pem),
        "key.pem": key.private_bytes(pem, pkcs8, plain),
    }


def object_store_image() -> str:
    out = subprocess.run([sys.executable, ROOT / "tools/images", "tags"], capture_output=True, text=True, check=True)
    return f"dedicated-odoo/object-store:{json.loads(out.stdout)['object-store']}"


class Site(Stack):
    """Hosts a and b: each has its own data directory and configuration."""

    def start(self) -> None:
        super().start()
        store = self.folder / "store"
        store.mkdir()
        files = certificates()
        rights = [f"{verb}:{BUCKET}" for verb in ("Read", "List", "Write")]
        identities = [
            {"name": name, "credentials": [{"accessKey": name, "secretKey": secret}], "actions": actions}
            for (name, secret), actions in zip(KEYS.items(), (rights, ["Admin", "Read", "List", "Write"]), strict=True)
        ]
        files["s3.json"] = json.dumps({"identities": identities}).encode()
        for name, content in files.items():
            (store / name).write_bytes(content)
            (store / name).chmod(0o644)
        self.write("s3-ca.pem", files["ca.pem"].decode())
        docker("run", "-d", "--name", STORE, "--network", "guardtest-net", "--network-alias", NAME,
               "-v", f"{store}:/etc/lab:ro", object_store_image())
        wait("the bucket is made", self.make_bucket)
        self.plain = CONF.format(postgres=address("guardtest-postgres"), redis=address("guardtest-redis")).replace(
            "dedicated_session_redis\n", "dedicated_session_redis,dedicated_attachment_s3\n"
        )
        for host in ("a", "b"):
            (self.folder / host).mkdir()
            os.chown(self.folder / host, 10050, 10050)
        self.conf(self.plain + S3_CONF)

    def conf(self, text: str) -> None:
        (self.folder / "odoo.conf").unlink(missing_ok=True)
        self.write("odoo.conf", text)

    def args(self, host: str) -> list[str]:
        data = f"{self.folder}/data:/var/lib/odoo"
        return [
            *(f"{self.folder}/{host}:/var/lib/odoo" if arg == data else arg for arg in self.odoo_args()),
            "-v", f"{self.folder}/s3-ca.pem:/etc/odoo/s3-ca.pem:ro",
        ]

    def command(self, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(["docker", "run", "--rm", "-i", *self.args("a"), self.images["odoo"], *argv],
                              input=stdin, capture_output=True, text=True, check=False)

    def serve(self, host: str) -> None:
        docker("run", "-d", "--name", f"guardtest-{host}", *self.args(host), self.images["odoo"],
               "odoo", "--config=/etc/odoo/odoo.conf", "--workers=2", "--max-cron-threads=0")

    # -- the administrator's view of the bucket

    def s3(self) -> t.Any:
        urllib3.disable_warnings()
        # By address, since its name is known inside the network only; Odoo's own check of it is tested below.
        return boto3.client(
            "s3", endpoint_url=f"https://{address(STORE)}:8333", verify=False, region_name="lab",
            aws_access_key_id="admin", aws_secret_access_key=KEYS["admin"],
            config=Config(s3={"addressing_style": "path"}, connect_timeout=2, read_timeout=5),
        )

    def make_bucket(self) -> bool:
        try:
            self.s3().create_bucket(Bucket=BUCKET)
        except self.s3().exceptions.BucketAlreadyOwnedByYou:
            pass
        except Exception as exc:
            raise OSError from exc
        return True

    def objects(self) -> dict[str, int]:
        found = self.s3().list_objects_v2(Bucket=BUCKET, Prefix=f"{PREFIX}/odoo/").get("Contents", [])
        return {each["Key"]: each["Size"] for each in found}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Site]:
    clean()
    made = Site(tmp_path_factory.mktemp("attachments"))
    try:
        made.start()
        done = made.command("odoo-init")
        assert done.returncode == 0, done.stderr[-3000:]
        for host in ("a", "b"):
            made.serve(host)
        for host in ("a", "b"):
            page = Browser(address(f"guardtest-{host}"))
            wait("Odoo answers", lambda page=page: page.get("/web/login").status == 200)
        yield made
    finally:
        if not os.environ.get("GUARDTEST_KEEP"):
            clean()


@pytest.fixture(scope="module")
def browsers(site: Site) -> dict[str, Browser]:
    found = {host: Browser(address(f"guardtest-{host}")) for host in ("a", "b")}
    for browser in found.values():
        browser.login()
    return found


def text(kilobytes: int = 200) -> str:
    return secrets.token_hex(kilobytes * 512)


def key(content: str) -> str:
    digest = hashlib.sha256(content.encode()).hexdigest()
    return f"{PREFIX}/odoo/{digest[:2]}/{digest}"


def create(browser: Browser, content: str, name: str = "invoice.pdf", mimetype: str = "application/pdf") -> Answer:
    values = {"name": name, "mimetype": mimetype, "datas": base64.b64encode(content.encode()).decode()}
    return browser.json(
        "/web/dataset/call_kw/ir.attachment/create", model="ir.attachment", method="create", args=[[values]], kwargs={}
    )


def upload(browser: Browser, content: str, **kwargs: str) -> int:
    answer = create(browser, content, **kwargs)
    assert answer.status == 200, answer
    return int(json.loads(answer.body)["result"][0])


def remove(browser: Browser, *ids: int) -> None:
    answer = browser.json(
        "/web/dataset/call_kw/ir.attachment/unlink",
        model="ir.attachment", method="unlink", args=[list(ids)], kwargs={},
    )
    assert json.loads(answer.body).get("result") is True, answer.body


def row(number: int) -> tuple[str, bool]:
    fname, in_database = sql(
        f"SELECT coalesce(store_fname, ''), db_datas IS NOT NULL FROM ir_attachment WHERE id = {number}"
    ).split("|")
    return fname, in_database == "t"


def content_of(browser: Browser, number: int) -> Answer:
    return browser.get(f"/web/content/{number}?download=1")


def on_disk(folder: Path, content: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size == len(content)]


def test_one_object_for_all_hosts(site: Site, browsers: dict[str, Browser]) -> None:
    content = text()
    first = upload(browsers["a"], content)
    assert row(first) == (f"s3:odoo/{key(content).removeprefix(PREFIX + '/odoo/')}", False)
    assert site.s3().get_object(Bucket=BUCKET, Key=key(content))["Body"].read() == content.encode()
    assert not on_disk(site.folder / "a", content)
    assert content_of(browsers["b"], first).body == content

    before = site.objects()
    second = upload(browsers["b"], content, name="other.pdf")
    assert row(second) == row(first)
    assert site.objects() == before
    assert content_of(browsers["a"], second).body == content
    # A part of it, as a viewer of long documents asks.
    part = browsers["a"].ask(f"/web/content/{first}?download=1", Range="bytes=100-199")
    assert (part.status, part.body) == (206, content[100:200])


@pytest.mark.parametrize(("name", "mimetype", "size"), [("x.css", "text/css", 200), ("x.svg", "image/svg+xml", 20)])
def test_what_every_page_needs_stays_in_the_database(
    site: Site, browsers: dict[str, Browser], name: str, mimetype: str, size: int
) -> None:
    content = text(size)
    number = upload(browsers["a"], content, name=name, mimetype=mimetype)
    assert row(number) == ("", True)
    assert key(content) not in site.objects()
    # The same bytes as a document: now they are needed in the store.
    document = upload(browsers["a"], content)
    assert row(document)[0].startswith("s3:")
    assert key(content) in site.objects()
    assert content_of(browsers["b"], number).body == content_of(browsers["b"], document).body == content


def test_removed_ones_are_kept(site: Site, browsers: dict[str, Browser]) -> None:
    """Until nothing has named them for the days that a database may be recovered to."""
    gone, again, fresh = text(), text(), text()
    numbers = [upload(browsers["a"], content) for content in (gone, again, fresh)]
    remove(browsers["b"], *numbers)
    upload(browsers["a"], again)
    assert {key(gone), key(again), key(fresh)} <= set(site.objects())
    for content in (gone, again):
        digest = hashlib.sha256(content.encode()).hexdigest()
        sql(f"UPDATE dedicated_attachment_unused SET since = since - interval '{KEEP_DAYS} days 1 hour'"
            f" WHERE store_fname LIKE '%{digest}'")
    # A name of another database, whose objects are not ours to remove.
    sql(f"INSERT INTO dedicated_attachment_unused VALUES ('s3:other/{'a' * 2}/{'a' * 64}', '2000-01-01')")
    docker("exec", "-i", "guardtest-a", "odoo", "shell", "-c", "/etc/odoo/odoo.conf", "-d", "odoo", "--no-http",
           "--shell-interface=python", stdin="env['ir.attachment']._gc_file_store()\n")
    left = site.objects()
    assert key(gone) not in left
    assert {key(again), key(fresh)} <= set(left)
    unused = sql("SELECT store_fname FROM dedicated_attachment_unused")
    assert "s3:other/" in unused
    assert hashlib.sha256(again.encode()).hexdigest() not in unused
    assert hashlib.sha256(fresh.encode()).hexdigest() in unused


def test_what_is_lost_or_damaged_is_never_served(site: Site, browsers: dict[str, Browser]) -> None:
    lost, damaged = text(), text()
    numbers = [upload(browsers["a"], content) for content in (lost, damaged)]
    site.s3().delete_object(Bucket=BUCKET, Key=key(lost))
    site.s3().put_object(Bucket=BUCKET, Key=key(damaged), Body=b"something else")
    for number, says in zip(numbers, ("not in the object store", "damaged"), strict=True):
        answer = content_of(browsers["b"], number)
        assert answer.status >= 400
        read = browsers["b"].json("/web/dataset/call_kw/ir.attachment/read", model="ir.attachment", method="read",
                                  args=[[number], ["datas"]], kwargs={})
        assert says in read.body, read.body
    verify = site.command("odoo-attachments", "verify")
    assert verify.returncode == 1
    assert set(json.loads(verify.stdout.splitlines()[-1])["failed"]) == {str(number) for number in numbers}
    remove(browsers["a"], *numbers)


@pytest.mark.parametrize("read", [False, True])
def test_the_store_is_asked_for_what_a_copy_names(site: Site, browsers: dict[str, Browser], read: bool) -> None:
    whole, lost, longer, altered = (text() for _each in range(4))
    numbers = [upload(browsers["a"], content) for content in (whole, lost, longer, altered)]
    names = {content: row(number)[0] for number, content in zip(numbers, (whole, lost, longer, altered), strict=True)}
    site.s3().delete_object(Bucket=BUCKET, Key=key(lost))
    site.s3().put_object(Bucket=BUCKET, Key=key(longer), Body=longer.encode() + b"!")
    site.s3().put_object(Bucket=BUCKET, Key=key(altered), Body=b"!" * len(altered))
    question = {names[content]: len(content) for content in names} | {"s3:../x": 1}
    asked = site.command("odoo-attachments", "check", stdin=json.dumps({"names": question, "read": read}))
    assert asked.returncode == 0, asked.stderr
    said = json.loads(asked.stdout)
    assert (said["asked"], said["read"]) == (5, read)
    wrong = {"s3:../x": "no name of an object", names[lost]: "nothing"}
    wrong[names[longer]] = "other bytes" if read else f"{len(longer) + 1} bytes"
    # A size says nothing about bytes.
    assert said["wrong"] == (wrong | {names[altered]: "other bytes"} if read else wrong)
    remove(browsers["a"], *numbers)


def form(browser: Browser, content: str, token: str) -> Answer:
    """Odoo's upload page catches every error and commits."""
    parts = {"csrf_token": token, "model": "res.partner", "id": "1"}
    body = "".join(f'--edge\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in parts.items())
    body += f'--edge\r\nContent-Disposition: form-data; name="ufile"; filename="x.pdf"\r\n\r\n{content}\r\n--edge--\r\n'
    kind = "multipart/form-data; boundary=edge"
    return browser.ask("/web/binary/upload_attachment", body.encode(), Content_Type=kind)


OUTAGES = {
    "stopped": (["stop", "--time", "1", STORE], ["start", STORE]),
    "frozen": (["pause", STORE], ["unpause", STORE]),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_store_away(site: Site, browsers: dict[str, Browser], outage: str) -> None:
    content = text()
    number = upload(browsers["a"], content)
    token = re.search(r'csrf_token: "([^"]+)"', browsers["a"].get("/odoo").body)
    assert token
    count = "SELECT count(*) FROM ir_attachment"
    before, marker = sql(count), len(docker("logs", "guardtest-a"))
    went, came = OUTAGES[outage]
    docker(*went)
    try:
        started = time.monotonic()
        refused = create(browsers["a"], text())
        assert time.monotonic() - started < 30
        assert "Nothing was saved" in refused.body, refused
        assert refused.status == 200  # an answer to the user, shown as a dialogue
        assert "error" in form(browsers["a"], text(), token.group(1)).body
        assert sql(count) == before
        reading = content_of(browsers["a"], number)
        assert (reading.status, reading.headers["Retry-After"]) == (503, "5"), reading
        # What does not need the store goes on.
        assert browsers["a"].logged_in()
        assert browsers["a"].get("/web/health").status == 200
        # Small pictures and styles are in the database.
        upload(browsers["a"], text(1), name="x.svg", mimetype="image/svg+xml")
    finally:
        docker(*came)
    wait("the store is back", lambda: content_of(browsers["a"], number).body == content, 60)
    wait("and takes documents", lambda: "result" in json.loads(create(browsers["a"], text()).body), 30)
    assert content_of(browsers["b"], number).body == content
    log = docker("logs", "guardtest-a")[marker:]
    assert log.count("The object store is away:") == 1, log
    assert log.count("The object store is back after") == 1, log


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("ca_file = /etc/odoo/s3-ca.pem", "ca_file ="), "SSL"),
        ((f"secret_key = {KEYS['odoo']}", "secret_key = wrong"), "refuses to write an object: 403"),
        ((f"bucket = {BUCKET}", "bucket = another"), "refuses to write an object"),
        ((f"https://{NAME}", f"http://{NAME}"), "expected https"),
        ((":8333", ":8339"), "EndpointConnectionError"),
    ],
)
def test_init_refuses_a_store_that_cannot_be_used(site: Site, change: tuple[str, str], says: str) -> None:
    site.conf((site.plain + S3_CONF).replace(*change))
    try:
        done = site.command("odoo-init")
        assert done.returncode == 1
        assert "object_store_unusable" in done.stderr
        assert says in done.stderr, done.stderr
        assert KEYS["odoo"] not in done.stderr + done.stdout
    finally:
        site.conf(site.plain + S3_CONF)


def test_there_and_back(site: Site, browsers: dict[str, Browser]) -> None:
    """Into the database and into the store again; what is only moved is not changed."""
    content = text()
    number = upload(browsers["a"], content)
    wrote = sql(f"SELECT write_date, checksum FROM ir_attachment WHERE id = {number}")
    try:
        site.conf(site.plain)
        refused = site.command("odoo-init")
        assert refused.returncode == 1
        assert "attachments_in_object_store" in refused.stderr

        site.conf(site.plain + S3_CONF + "dedicated_attachment_s3_write = False\n")
        done = site.command("odoo-attachments", "move")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["failed"] == {}
        assert row(number) == ("", True)
        assert sql("SELECT count(*) FROM ir_attachment WHERE store_fname IS NOT NULL") == "0"
        assert key(content) in site.objects()

        site.conf(site.plain)
        kept = site.command("odoo-init")
        assert kept.returncode == 0, kept.stderr
    finally:
        site.conf(site.plain + S3_CONF)
    assert content_of(browsers["b"], number).body == content
    status = json.loads(site.command("odoo-attachments", "status").stdout.splitlines()[-1])
    assert status["to_move"] > 0
    done = site.command("odoo-attachments", "move")
    assert done.returncode == 0, done.stderr
    assert row(number)[0].startswith("s3:")
    assert content_of(browsers["a"], number).body == content
    assert sql(f"SELECT write_date, checksum FROM ir_attachment WHERE id = {number}") == wrote
    status = json.loads(site.command("odoo-attachments", "status").stdout.splitlines()[-1])
    assert (status["to_move"], status["new_ones_go_to"], "files" in status) == (0, "object_store", False)
    verify = site.command("odoo-attachments", "verify")
    assert verify.returncode == 0, verify.stderr
    again = json.loads(site.command("odoo-attachments", "move").stdout.splitlines()[-1])
    assert again == {"moved": 0, "failed": {}}


def test_secrets_are_in_no_process_and_no_log(site: Site) -> None:
    for host in ("a", "b"):
        assert KEYS["odoo"] not in docker("inspect", f"guardtest-{host}")
        assert KEYS["odoo"] not in docker("top", f"guardtest-{host}", "-eo", "pid,args")
        log = docker("logs", f"guardtest-{host}")
        assert KEYS["odoo"] not in log
        assert PASSWORD not in log
