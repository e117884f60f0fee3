# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The copy of inventory and authority: the same bytes for the same content, whole or made anew, never half."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._site_copy import bundle, plan
from ansible_collections.dedicated.odoo.plugins.module_utils._site_copy.io import Place


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    root = tmp_path / "inventory"
    for name, text in {
        "hosts.yml": "all: {}\n",
        "group_vars/all/secrets.yml": "$ANSIBLE_VAULT;1.1;AES256\n6161\n",
        "host_vars/erp1.yml": "a: 1\n",
        "roles/big/files/dump": "x" * 100,
        ".git/config": "[core]\n",
        "hosts.retry": "erp1\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "group_vars/all/shared.yml").symlink_to(root / "host_vars/erp1.yml")
    (root / "group_vars/all/gone.yml").symlink_to(root / "nowhere")
    return root


@pytest.fixture
def data(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    place.mkdir()
    (place / "PG_VERSION").write_text("17\n")
    return place


def names(packed: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
        return tar.getnames()


def test_what_ansible_reads_is_in_it(inventory: Path) -> None:
    packed = bundle.pack(bundle.gather("inventory", str(inventory), ["group_vars", "host_vars"]))
    assert names(packed) == [
        "inventory/group_vars/all/secrets.yml",
        "inventory/group_vars/all/shared.yml",
        "inventory/host_vars/erp1.yml",
        "inventory/hosts.yml",
    ]
    assert "inventory/roles/big/files/dump" in names(bundle.pack(bundle.gather("inventory", str(inventory))))


def test_the_same_content_is_the_same_copy(inventory: Path) -> None:
    first = bundle.pack(bundle.gather("inventory", str(inventory)))
    os.utime(inventory / "hosts.yml", (1, 1))
    assert bundle.pack(bundle.gather("inventory", str(inventory))) == first
    assert bundle.digest(first, b"one") != bundle.digest(first, b"two")
    (inventory / "hosts.yml").write_text("all: {hosts: {}}\n")
    assert bundle.pack(bundle.gather("inventory", str(inventory))) != first


def test_refusals() -> None:
    assert plan.why_not({"inventory": 1, "pki": 2}, plan.LIMIT, True) is None
    for code, given in {
        "nothing-to-copy": ({"inventory": 1, "pki": 0}, 10, True),
        "too-large": ({"inventory": 1}, plan.LIMIT + 1, True),
        "no-secret": ({"inventory": 1}, 10, False),
    }.items():
        refusal = plan.why_not(*given)
        assert refusal is not None
        assert refusal.code == code


def test_where_no_database_is_nothing_is_due(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "nowhere"), os.getuid())
    assert place.look() == plan.Found(False)
    assert not plan.is_due(place.look(), "1")


def test_it_is_written_once_and_for_the_database_only(data: Path) -> None:
    place = Place(str(data), os.getuid())
    assert plan.is_due(place.look(), "1")
    place.write(b"sealed", {"digest": "1", "cluster": "acme"})
    assert not plan.is_due(place.look(), "1")
    assert plan.is_due(place.look(), "2")
    directory = data / "dedicated"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {one.name: one.stat().st_mode & 0o777 for one in directory.iterdir()} == {
        plan.SEALED: 0o600,
        plan.NOTE: 0o600,
    }
    assert json.loads((directory / plan.NOTE).read_text()) == {"bytes": 6, "cluster": "acme", "digest": "1"}


def test_a_run_that_died_anywhere_is_made_good(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced: list[str] = []
    real = os.replace

    def dies_after(count: int) -> None:
        def replace(source: str, target: str) -> None:
            if len(replaced) >= count:
                raise OSError(5, "gone")
            replaced.append(target)
            real(source, target)

        replaced.clear()
        monkeypatch.setattr(os, "replace", replace)

    place = Place(str(data), os.getuid())
    for old in (b"", b"former, longer"):
        if old:
            place.write(old, {"digest": "0"})
        for count in (0, 1):
            dies_after(count)
            with pytest.raises(DedicatedError):
                place.write(b"sealed", {"digest": "1"})
            assert plan.is_due(place.look(), "1")
            monkeypatch.setattr(os, "replace", real)
        place.write(b"sealed", {"digest": "1"})
        assert not plan.is_due(place.look(), "1")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"digest": "1"}', '{"digest": "1", "bytes": "x"}'])
def test_a_note_that_cannot_be_read_is_none(data: Path, text: str) -> None:
    place = Place(str(data), os.getuid())
    place.write(b"sealed", {"digest": "1"})
    (data / "dedicated" / plan.NOTE).write_text(text)
    assert plan.is_due(place.look(), "1")


def test_a_copy_that_was_cut_off_is_made_anew(data: Path) -> None:
    place = Place(str(data), os.getuid())
    place.write(b"sealed", {"digest": "1"})
    (data / "dedicated" / plan.SEALED).write_bytes(b"sea")
    assert plan.is_due(place.look(), "1")
