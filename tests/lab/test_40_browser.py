# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real browser, which verifies the certificate itself, logs in and shows the accounting dashboard."""

from __future__ import annotations

import collections.abc
import contextlib
import os
import shutil
import tempfile
import typing as t
from pathlib import Path

from labtools import Lab, run
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as expect
from selenium.webdriver.support.ui import WebDriverWait

# Debian's package leaves this file of the module mail out (blurred backgrounds in calls), and its list names it.
KNOWN = "mail/static/lib/selfie_segmentation/selfie_segmentation.js"
NEEDED = ("chromium", "chromedriver", "certutil")


@contextlib.contextmanager
def chromium(lab: Lab, trusted: bool = True) -> collections.abc.Iterator[webdriver.Chrome]:
    missing = [name for name in NEEDED if shutil.which(name) is None]
    assert not missing, f"{', '.join(missing)} missing: apt-get install chromium chromium-driver libnss3-tools"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        store = Path(home) / ".pki" / "nssdb"
        store.mkdir(parents=True)
        run(["certutil", "-d", f"sql:{store}", "-N", "--empty-password"])
        if trusted:
            run(["certutil", "-d", f"sql:{store}", "-A", "-t", "C,,", "-n", "lab", "-i", lab.ca_file])
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--no-proxy-server",
            "--window-size=1400,900",
            f"--user-data-dir={home}/profile",
            "--lang=en-US",
            f"--host-resolver-rules=MAP {lab.domain} {lab.front}",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(
            executable_path=str(shutil.which("chromedriver")),
            env=os.environ | {"HOME": home, "XDG_CONFIG_HOME": f"{home}/.config", "XDG_CACHE_HOME": f"{home}/.cache"},
        )
        driver = webdriver.Chrome(options=options, service=service)
        try:
            driver.set_page_load_timeout(90)
            yield driver
        finally:
            driver.quit()


def save(driver: webdriver.Chrome, lab: Lab, name: str) -> Path:
    folder = lab.build / "artefacts"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    assert driver.save_screenshot(str(path))
    return path


def shown(driver: webdriver.Chrome, selector: str, seconds: int = 60) -> t.Any:
    return WebDriverWait(driver, seconds).until(expect.visibility_of_element_located((By.CSS_SELECTOR, selector)))


def sign_in(driver: webdriver.Chrome, lab: Lab) -> None:
    driver.get(f"{lab.url}/web/login")
    shown(driver, "input#login").send_keys(lab.login)
    driver.find_element(By.CSS_SELECTOR, "input#password").send_keys(lab.password)
    driver.find_element(By.CSS_SELECTOR, ".oe_login_form button[type=submit]").click()
    shown(driver, ".o_main_navbar", 90)
    # A click while the first page is still coming would be lost.
    shown(driver, ".o_action_manager > *", 90)


def test_a_browser_without_our_ca_refuses_the_page(lab: Lab) -> None:
    """So that the page below proves something: verification is on."""
    with chromium(lab, trusted=False) as driver:
        try:
            driver.get(f"{lab.url}/web/login")
            said = driver.find_element(By.CSS_SELECTOR, "body").text
        except WebDriverException as error:
            said = str(error)
        assert "ERR_CERT_AUTHORITY_INVALID" in said
        assert not driver.find_elements(By.CSS_SELECTOR, "input#password")


def test_the_accounting_dashboard(lab: Lab) -> None:
    with chromium(lab) as driver:
        try:
            sign_in(driver, lab)
            shown(driver, ".o_navbar_apps_menu button").click()
            shown(driver, "a.o_app[data-menu-xmlid='account.menu_finance']").click()
            shown(driver, ".o_list_view, .o_kanban_view", 120)
            driver.get(f"{lab.url}/odoo/action-account.open_account_journal_dashboard_kanban")
            # A first visit compiles the assets.
            shown(driver, ".o_account_kanban .o_kanban_record, .o_kanban_view .o_kanban_record", 120)
            WebDriverWait(driver, 30).until(lambda d: not d.find_elements(By.CSS_SELECTOR, ".o_loading_indicator"))
            text = driver.find_element(By.CSS_SELECTOR, "body").text
        finally:
            picture = save(driver, lab, "accounting-dashboard")
        assert "Sales" in text
        assert "Purchases" in text
        assert "Bank" in text
        assert picture.stat().st_size > 20_000
        # What the browser could not load, or refused to.
        severe = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        assert not [message for message in severe if KNOWN not in message]


def test_the_browser_has_a_live_websocket(lab: Lab) -> None:
    """Odoo's own client connects through the edge: its worker says so."""
    with chromium(lab) as driver:
        sign_in(driver, lab)
        WebDriverWait(driver, 60).until(
            lambda d: d.execute_script("return Boolean(window.odoo && odoo.__WOWL_DEBUG__ && odoo.__WOWL_DEBUG__.root)")
        )
        state = WebDriverWait(driver, 60).until(
            lambda d: d.execute_script(
                "const bus = odoo.__WOWL_DEBUG__.root.env.services.bus_service;"
                "if (!bus.isActive) { bus.start(); }"
                "return bus.isActive ? 'active' : ''"
            )
        )
        assert state == "active"
