# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attachments in the object store: the option is taken, every host serves them, and the way back is open.

What becomes of them when the store is away, damaged or slow is tried on the images alone: images/odoo/tests.
"""

from __future__ import annotations

import base64
import hashlib
import json
import typing as t

import boto3
from botocore.config import Config
from labtools import Api, Lab, unique, wait_until
from operating import operate
from test_10_site import converge
from test_20_users import FETCH


def options(lab: Lab, **more: t.Any) -> list[str]:
    """Arguments of a run that writes to the lab's store, or only reads from it."""
    domain = lab.domain.partition(".")[2]
    values = {
        "odoo_attachments": "s3",
        "odoo_s3_endpoint": f"object-store.{domain}",
        "odoo_s3_port": 8333,
        "odoo_s3_region": "lab",
        "odoo_s3_bucket": "attachments",
        "odoo_s3_ca": (lab.build / "services-ca.pem").read_text(),
    }
    path = lab.build / "attachments.json"
    path.write_text(json.dumps(values | more))
    return ["--tags", "odoo", "--extra-vars", f"@{path}"]


def command(lab: Lab, verb: str) -> dict[str, t.Any]:
    found: dict[str, t.Any] = json.loads(lab.of("odoo")[0].inside("odoo-web", ["odoo-attachments", verb]).stdout)
    return found


def served(lab: Lab, number: int) -> set[str]:
    return {host.run(["python3", "-c", FETCH, lab.domain, str(number)]).stdout.strip() for host in lab.of("odoo")}


def where(lab: Lab, number: int) -> list[str]:
    """Whether the row has the content itself, and the name of the object or file that has it."""
    query = f"SELECT db_datas IS NOT NULL, coalesce(store_fname, '') FROM ir_attachment WHERE id = {int(number)}"
    return lab.leader().sql(query, lab.database)[0]


def test_attachments_go_to_the_store_and_come_back(lab: Lab) -> None:
    wait_until("the login page answers", lab.answers, 60)
    api = Api(lab, lab.login, lab.password)
    content = unique("proof").encode() * 100_000
    digest = hashlib.sha256(content).hexdigest()
    values = {"name": "proof.bin", "datas": base64.b64encode(content).decode(), "public": True}

    before = api.call("ir.attachment", "create", [values])[0]
    assert where(lab, before) == ["t", ""], "the default is the database"
    converge(lab, *options(lab))
    stored = api.call("ir.attachment", "create", [values])[0]
    in_row, name = where(lab, stored)
    assert in_row == "f"
    assert name.startswith("s3:")
    assert digest in name
    assert served(lab, stored) == {digest}
    command(lab, "move")
    assert where(lab, before)[0] == "f"
    assert served(lab, before) == {digest}
    command(lab, "verify")

    converge(lab, *options(lab, odoo_attachments="database"))
    assert served(lab, stored) == {digest}, "what lies in the store is read from there"
    command(lab, "move")
    assert where(lab, stored) == ["t", ""]
    assert served(lab, stored) == {digest}
    converge(lab, "--tags", "odoo")
    assert served(lab, stored) == {digest}
    for number in (before, stored):
        api.call("ir.attachment", "unlink", [number])


def administrator(lab: Lab) -> t.Any:
    return boto3.client(
        "s3",
        endpoint_url=f"https://{lab.service_address(5)}:8333",
        verify=str(lab.build / "services-ca.pem"),
        aws_access_key_id="admin",
        aws_secret_access_key=(lab.build / "s3-admin-secret").read_text().strip(),
        region_name="lab",
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )


def test_a_restored_database_whose_document_is_gone_is_not_accepted(lab: Lab) -> None:
    """Database and object store of different moments."""
    api = Api(lab, lab.login, lab.password)
    content = unique("gone").encode() * 50_000
    converge(lab, *options(lab))
    values = {"name": "gone.bin", "datas": base64.b64encode(content).decode()}
    number = api.call("ir.attachment", "create", [values])[0]
    key = f"{lab.variables['dedicated_cluster']}/{where(lab, number)[1].removeprefix('s3:')}"
    place = {"Bucket": "attachments", "Key": key}
    reason, store = ("-e", "reason=proof"), administrator(lab)
    try:
        store.delete_object(**place)
        output = operate(lab, "rehearse_restore", *reason, fails=True)
        assert f"attachment {number}" in output, output[-3000:]
        assert "objects_present" in output
        store.put_object(**place, Body=content)
        output = operate(lab, "rehearse_restore", *reason, "-e", "read_documents=true")
        assert "restored and reconciled" in output, output[-3000:]
    finally:
        store.put_object(**place, Body=content)
        converge(lab, *options(lab, odoo_attachments="database"))
        command(lab, "move")
        api.call("ir.attachment", "unlink", [number])
        converge(lab, "--tags", "odoo")


def test_nothing_of_an_attachment_lies_on_a_host(lab: Lab) -> None:
    for host in lab.of("odoo"):
        found = host.inside("odoo-web", ["find", "/var/lib/odoo", "-path", "*filestore*", "-type", "f"], check=False)
        assert found.stdout.strip() == "", host.name
