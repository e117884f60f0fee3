# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
import yaml
from loading import IMAGE, load

init = load("bin/odoo-init")
health = load("bin/odoo-health")
prepare = load("prepare")

WANT = {"database": "odoo", "modules": ["account"], "language": "fr_FR", "admin_login": "admin"}


# -- odoo-init


@pytest.mark.parametrize(
    ("state", "has_tables", "action"),
    [
        (None, False, "start"),
        (None, True, "leave"),
        ("running", True, "restart"),
        ("running", False, "restart"),
        ("done", True, "keep"),
        ("anything", True, "restart"),
    ],
)
def test_what_init_does(state: str | None, has_tables: bool, action: str) -> None:
    assert init.decide(state, has_tables) == action


def test_init_accepts() -> None:
    found = init.wanted({**WANT, "company": {"name": "X", "country": "fr"}, "parameters": {"a": "b"}})
    assert found["company"] == {"name": "X", "country": "fr"}
    assert init.wanted(WANT)["parameters"] == {}


@pytest.mark.parametrize(
    "change",
    [
        {"modules": []},
        {"modules": "account"},
        {"modules": ["account,sale"]},
        {"database": "../x"},
        {"database": None},
        {"language": "french"},
        {"admin_login": " "},
        {"company": {"county": "FR"}},
        {"company": {"country": "France"}},
        {"parameters": []},
        {"modulse": ["account"]},
    ],
)
def test_init_refuses(change: dict[str, t.Any]) -> None:
    with pytest.raises(init.InitError, match=r"init\.json"):
        init.wanted({**WANT, **change})


def test_init_connects_as_odoo_does() -> None:
    options = {"db_host": "/run/dedicated/router", "db_port": "6432", "db_user": "odoo", "db_password": "p"}
    found = init.connection(options, "postgres")
    assert found["host"] == "/run/dedicated/router"
    assert found["port"] == "6432"
    assert found["dbname"] == "postgres"
    assert "host" not in init.connection({"db_host": "False"}, "x")


def test_lock_key_is_a_bigint_and_differs() -> None:
    keys = {init.lock_key(name) for name in ("odoo", "other", "third")}
    assert len(keys) == 3
    assert all(0 < key < 2**63 for key in keys)


def test_english_needs_no_translation() -> None:
    assert init.po_names("en_US") == []
    assert init.po_names("pt_BR") == ["pt_BR", "pt"]


# -- odoo-health


@pytest.mark.parametrize(
    ("cmdline", "parent", "is_master"),
    [
        (b"/usr/bin/python3\0/usr/bin/odoo\0--config=/etc/odoo/odoo.conf\0", 1, True),
        (b"/usr/bin/python3\0/usr/bin/odoo\0gevent\0", 7, False),
        (b"/usr/bin/tini\0--\0odoo\0", 0, False),
        (b"/usr/bin/python3\0-I\0/usr/local/bin/odoo-health\0cron\0", 1, False),
        (b"", 1, False),
    ],
)
def test_the_master_is_recognised(cmdline: bytes, parent: int, is_master: bool) -> None:
    assert health.is_master(cmdline, parent) is is_master


def test_health_refuses_other_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert health.main(["wbe"]) == 1
    assert "usage" in capsys.readouterr().err


# -- add-ons


def test_the_declared_addons_are_valid_and_named_in_the_contract(tmp_path: Path) -> None:
    declared = prepare.parse(yaml.safe_load((IMAGE / "addons.yml").read_text()))
    for addon in declared:
        assert addon.kind == "directory"
        prepare.copy_addons(IMAGE / addon.source, tmp_path)
    contract = yaml.safe_load((IMAGE / "contract.yml").read_text())
    assert sorted(path.name for path in (tmp_path / "addons").iterdir()) == sorted(contract["addons"])


def test_addons_of_each_kind() -> None:
    data = {
        "addons": [
            {"directory": "addons/mine"},
            {"wheel": "odoo-addon-queue-job", "version": "19.0.2.4.0.1", "sha256": "0" * 64},
            {"git": "https://example.com/x.git", "commit": "a" * 40, "modules": ["one"]},
        ]
    }
    assert [addon.kind for addon in prepare.parse(data)] == ["directory", "wheel", "git"]


@pytest.mark.parametrize(
    "entry",
    [
        {},
        "addons/mine",
        {"directory": "/srv/addons"},
        {"directory": "addons/../../x"},
        {"directory": "a", "wheel": "b"},
        {"directory": "a", "version": "1"},
        {"wheel": "x", "version": "1.0"},
        {"wheel": "x", "version": 1.0, "sha256": "0" * 64},
        {"wheel": "x --index-url=y", "version": "1", "sha256": "0" * 64},
        {"git": "https://example.com/x.git", "commit": "main"},
        {"git": "--upload-pack=x", "commit": "a" * 40},
        {"git": "https://example.com/x.git", "commit": "a" * 40, "modules": ["../x"]},
    ],
)
def test_addons_refused(entry: object) -> None:
    with pytest.raises(prepare.AddonsError, match="entry 1"):
        prepare.parse({"addons": [entry]})


@pytest.mark.parametrize(
    ("member", "place"),
    [
        ("odoo/addons/x/__manifest__.py", "addons/x/__manifest__.py"),
        ("odoo/addons/__init__.py", None),
        ("odoo_addon_x-1.dist-info/METADATA", "python/odoo_addon_x-1.dist-info/METADATA"),
        ("../evil", None),
        ("/evil", None),
        ("folder/", None),
    ],
)
def test_where_a_wheel_is_unpacked(member: str, place: str | None) -> None:
    found = prepare.place_of(member)
    assert (None if found is None else str(found)) == place


def test_an_addon_declared_twice_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "one"
    source.mkdir()
    (source / "__manifest__.py").write_text("{}")
    prepare.copy_addons(source, tmp_path / "layout")
    with pytest.raises(prepare.AddonsError, match="twice"):
        prepare.copy_addons(source, tmp_path / "layout")
    with pytest.raises(prepare.AddonsError, match="no add-on two"):
        prepare.copy_addons(tmp_path, tmp_path / "other", ("two",))


def test_collecting_leaves_a_layout(tmp_path: Path) -> None:
    (tmp_path / "addons.yml").write_text(json.dumps({"addons": [{"directory": "mine"}]}))
    (tmp_path / "mine" / "a").mkdir(parents=True)
    (tmp_path / "mine" / "a" / "__manifest__.py").write_text("{}")
    assert prepare.main([str(tmp_path)]) == 0
    assert (tmp_path / "layout" / "addons" / "a" / "__manifest__.py").exists()
    assert (tmp_path / "layout" / "python").is_dir()


def test_a_git_reference_is_collected(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "one").mkdir(parents=True)
    (repository / "one" / "__manifest__.py").write_text("{}")
    git = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@example.com"]
    for argv in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "x"]):
        prepare.run([*git, *argv])
    commit = (repository / ".git" / "refs" / "heads").iterdir().__next__().read_text().strip()
    addon = prepare.parse({"addons": [{"git": f"file://{repository}", "commit": commit, "modules": ["one"]}]})[0]
    prepare.fetch_git(addon, tmp_path / "layout")
    assert (tmp_path / "layout" / "addons" / "one" / "__manifest__.py").exists()
