# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard and the session store in the real Odoo, against a PostgreSQL and a Redis that go away.

Needs a Docker engine and the images odoo, postgres and redis (tools/images build odoo postgres redis):

    pytest images/odoo/tests/test_guard.py

Everything it starts is called guardtest-* and removed afterwards; GUARDTEST_KEEP=1 keeps it to be looked at.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import http.cookiejar
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request
import xmlrpc.client
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NETWORK = "guardtest-net"
OUTAGE_SECONDS = 20
LOGIN, PASSWORD = "admin@example.com", "guard-test-password"

POSTGRES = r"""
export PATH=/usr/lib/postgresql/17/bin:$PATH PGDATA=/tmp/pg PGHOST=/tmp PGUSER=super
initdb -A trust -U super >/dev/null && echo 'host all all all trust' >> $PGDATA/pg_hba.conf
cat > /tmp/up <<'UP'
#!/bin/bash
export PATH=/usr/lib/postgresql/17/bin:$PATH PGDATA=/tmp/pg
pg_ctl -w -o '-c listen_addresses=* -c unix_socket_directories=/tmp -c fsync=off' -l /tmp/log start >/dev/null
UP
printf '#!/bin/bash\n/usr/lib/postgresql/17/bin/pg_ctl -D /tmp/pg -w -m fast stop >/dev/null\n' > /tmp/down
chmod +x /tmp/up /tmp/down; /tmp/up
createuser odoo && createdb -O odoo -T template0 -E UTF8 --lc-collate=C odoo
touch /tmp/ready; exec sleep infinity
"""
REDIS = r"""
cat > /tmp/acl <<'ACL'
user default off
user odoo on >secret ~odoo:session:* +COMMANDS+
user admin on >admin ~* +@all
ACL
cat > /tmp/up <<'UP'
#!/bin/bash
redis-server --protected-mode no --dir /tmp --appendonly yes --aclfile /tmp/acl --daemonize yes >/dev/null
UP
printf '#!/bin/bash\nredis-cli --user admin --pass admin --no-auth-warning shutdown >/dev/null 2>&1\n' > /tmp/down
chmod +x /tmp/up /tmp/down; /tmp/up; touch /tmp/ready; exec sleep infinity
"""
CONF = """[options]
db_host = {postgres}
db_user = odoo
db_name = odoo
dbfilter = ^odoo$
list_db = False
data_dir = /var/lib/odoo
addons_path = /usr/lib/python3/dist-packages/odoo/addons,/opt/odoo/addons
server_wide_modules = base,rpc,web,dedicated_guard,dedicated_session_redis
http_interface = 0.0.0.0
limit_time_real = 120
limit_memory_hard = 0
limit_memory_soft = 0
dedicated_session_url = redis://{redis}:6379/0
dedicated_session_user = odoo
dedicated_session_password = secret
dedicated_session_prefix = odoo:session:
"""
WEB = {
    "prefork": ["--workers=2", "--max-cron-threads=0"],
    "everything": ["--workers=2", "--max-cron-threads=1"],
    "threaded": ["--workers=0", "--max-cron-threads=1"],
}
CRON = ["--no-http", "--workers=1", "--max-cron-threads=1"]


def docker(*args: str, check: bool = True, stdin: str | None = None) -> str:
    done = subprocess.run(["docker", *args], input=stdin, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(args[:3])}: {done.stderr[-3000:]}"
    return done.stdout + done.stderr if args[0] == "logs" else done.stdout


def wait(what: str, ready: t.Callable[[], t.Any], seconds: float = 60) -> t.Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = ready()
        except (OSError, http.client.HTTPException, AssertionError):
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.3)


def images() -> dict[str, str]:
    out = subprocess.run([sys.executable, ROOT / "tools/images", "tags"], capture_output=True, text=True, check=True)
    tags = json.loads(out.stdout)
    return {
        name: os.environ.get(f"GUARDTEST_{name.upper()}_IMAGE", f"dedicated-odoo/{name}:{tags[name]}")
        for name in ("odoo", "postgres", "redis")
    }


def address(name: str) -> str:
    return docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name).strip()


def clean() -> None:
    found = docker("ps", "-aq", "--filter", "name=guardtest-").split()
    if found:
        docker("rm", "-fv", *found)
    docker("network", "rm", NETWORK, check=False)


class Stack:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = images()
        (folder / "data").mkdir()
        os.chown(folder / "data", 10050, 10050)

    def start(self) -> None:
        docker("network", "create", NETWORK)
        commands = json.loads(
            subprocess.run(
                [sys.executable, "-c", "import json,sys,yaml; print(json.dumps(yaml.safe_load(sys.stdin)))"],
                input=(ROOT / "images/odoo/contract.yml").read_text(),
                capture_output=True, text=True, check=True,
            ).stdout
        )["redis_commands"]
        for name, script in (
            ("postgres", POSTGRES),
            ("redis", REDIS.replace("+COMMANDS+", " ".join(f"+{command}" for command in commands))),
        ):
            docker("run", "-d", "--name", f"guardtest-{name}", "--network", NETWORK, "--entrypoint", "bash",
                   self.images[name], "-c", script)
        for name in ("postgres", "redis"):
            wait(f"{name} ready", lambda name=name: docker("exec", f"guardtest-{name}", "ls", "/tmp/ready"))
        self.write("odoo.conf", CONF.format(postgres=address("guardtest-postgres"), redis=address("guardtest-redis")))
        self.write("password", PASSWORD + "\n")
        self.write("init.json", json.dumps({
            "database": "odoo", "modules": ["web", "bus"], "language": "fr_FR", "admin_login": LOGIN,
            "company": {"name": "Guard Test", "country": "FR"},
            "parameters": {"ir_attachment.location": "db"},
        }))

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o400)
        os.chown(path, 10050, 10050)

    def odoo_args(self) -> list[str]:
        return [
            "--network", NETWORK, "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
            "--tmpfs", "/tmp", "-v", f"{self.folder}/data:/var/lib/odoo",
            "-v", f"{self.folder}/odoo.conf:/etc/odoo/odoo.conf:ro",
            "-v", f"{self.folder}/init.json:/etc/odoo/init.json:ro",
            "-v", f"{self.folder}/password:/run/secrets/odoo_admin_password:ro",
        ]

    def odoo(self, name: str, args: list[str]) -> None:
        docker("run", "-d", "--name", f"guardtest-{name}", *self.odoo_args(), self.images["odoo"],
               "odoo", "--config=/etc/odoo/odoo.conf", *args)

    def init(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["docker", "run", "--rm", *self.odoo_args(), self.images["odoo"], "odoo-init"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )


def sql(statement: str, database: str = "odoo") -> str:
    return docker("exec", "guardtest-postgres", "/usr/lib/postgresql/17/bin/psql", "-h", "/tmp", "-U", "super",
                  "-AtX", "-d", database, "-c", statement).strip()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Stack]:
    clean()
    made = Stack(tmp_path_factory.mktemp("guardtest"))
    try:
        made.start()
        yield made
    finally:
        if not os.environ.get("GUARDTEST_KEEP"):
            clean()


@pytest.fixture(scope="module")
def initialised(stack: Stack) -> dict[str, t.Any]:
    """Two callers at once, killed in the middle, then two again."""
    killed = [stack.init(), stack.init()]
    wait("one of them works", lambda: sql("SELECT count(*) FROM pg_class WHERE relname = 'res_users'") == "1")
    for name in docker("ps", "-q", "--filter", f"ancestor={stack.images['odoo']}").split():
        docker("kill", name)
    for process in killed:
        process.communicate()
        assert process.returncode != 0
    assert sql("SELECT state FROM public.dedicated_init") == "running"
    again = [stack.init(), stack.init()]
    ended = [(*process.communicate(), process.returncode) for process in again]
    assert [code for *_, code in ended] == [0, 0], ended
    answers = [json.loads(out.splitlines()[-1]) for out, *_ in ended]
    assert sorted(answer["changed"] for answer in answers) == [False, True]
    assert {answer["state"] for answer in answers} == {"done"}
    # The daily cleaning would use Redis while that is away, and say so at length.
    sql("UPDATE ir_cron SET nextcall = nextcall + interval '1 day'")
    return next(answer for answer in answers if answer["changed"])


@pytest.fixture(scope="module", params=list(WEB))
def odoo(request: pytest.FixtureRequest, stack: Stack, initialised: dict[str, t.Any]) -> t.Iterator[str]:
    names = [f"guardtest-{request.param}"]
    stack.odoo(request.param, WEB[request.param])
    if request.param == "prefork":
        stack.odoo("cron", CRON)
        names.append("guardtest-cron")
    wait_for_odoo(request.param)
    try:
        yield request.param
    finally:
        if not os.environ.get("GUARDTEST_KEEP"):
            docker("rm", "-fv", *names)


def wait_for_odoo(name: str) -> str:
    host = address(f"guardtest-{name}")
    wait("Odoo answers", lambda: Browser(host).get("/web/login").status == 200)
    wait("websockets are served", lambda: Browser(host, websocket_port(name)).get("/web/health").status == 200)
    return host


def websocket_port(name: str) -> int:
    return 8069 if name == "threaded" else 8072


class Answer(t.NamedTuple):
    status: int
    headers: t.Any
    body: str
    url: str


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: t.Any) -> None:
        return None


class Browser:
    def __init__(self, host: str, port: int = 8069) -> None:
        self.base = f"http://{host}:{port}"
        self.jar = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.jar), _Stay()
        )

    def ask(self, path: str, data: bytes | None = None, **headers: str) -> Answer:
        headers = {"Accept": "text/html", **{name.replace("_", "-"): value for name, value in headers.items()}}
        request = urllib.request.Request(self.base + path, data, headers)
        try:
            with self.opener.open(request, timeout=100) as reply:
                return Answer(reply.status, reply.headers, reply.read().decode(), reply.url)
        except urllib.error.HTTPError as exc:
            return Answer(exc.code, exc.headers, exc.read().decode(), exc.url)

    def get(self, path: str) -> Answer:
        return self.ask(path)

    def json(self, path: str, **params: t.Any) -> Answer:
        body = json.dumps({"jsonrpc": "2.0", "method": "call", "params": params}).encode()
        return self.ask(path, body, Content_Type="application/json")

    def xml(self, service: str, *params: t.Any) -> Answer:
        body = xmlrpc.client.dumps(params[1:], params[0]).encode()
        return self.ask(f"/xmlrpc/2/{service}", body, Content_Type="text/xml")

    def login(self) -> None:
        page = self.get("/web/login").body
        token = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert token, page[:500]
        form = urllib.parse.urlencode({"csrf_token": token.group(1), "login": LOGIN, "password": PASSWORD})
        assert self.ask("/web/login", form.encode()).status == 303
        assert self.logged_in()

    def session_id(self) -> str | None:
        return next((cookie.value for cookie in self.jar if cookie.name == "session_id"), None)

    def logged_in(self) -> bool:
        answer = self.json("/web/session/get_session_info")
        return answer.status == 200 and json.loads(answer.body).get("result", {}).get("username") == LOGIN


def processes() -> dict[str, set[str]]:
    """Odoo's processes of each container."""
    found = {}
    for name in docker("ps", "--format", "{{.Names}}", "--filter", "name=guardtest-").split():
        if name not in ("guardtest-postgres", "guardtest-redis"):
            lines = docker("top", name, "-eo", "pid,args").splitlines()[1:]
            found[name] = {line.split()[0] for line in lines if "odoo" in line}
    return found


class Load:
    """Asks for everything all the time, in several threads; each answer is kept."""

    def __init__(self, host: str, browser: Browser) -> None:
        self.over = threading.Event()
        self.answers: list[tuple[str, Answer, float]] = []
        jobs: dict[str, t.Callable[[], Answer]] = {
            "page": lambda: browser.get("/odoo"),
            "call": lambda: browser.json(
                "/web/dataset/call_kw/res.users/search_read",
                model="res.users", method="search_read", args=[[]], kwargs={"fields": ["login"]},
            ),
            "anonymous": lambda: Browser(host).get("/web/login"),
            "root": lambda: Browser(host).get("/"),
            "xmlrpc": lambda: Browser(host).xml("common", "authenticate", "odoo", LOGIN, PASSWORD, {}),
            "xmlrpc object": lambda: Browser(host).xml(
                "object", "execute_kw", "odoo", 2, PASSWORD, "res.partner", "search_count", [[]]
            ),
            "jsonrpc": lambda: Browser(host).json(
                "/jsonrpc", service="object", method="execute_kw",
                args=["odoo", 2, PASSWORD, "res.partner", "search_count", [[]]],
            ),
            "json2": lambda: Browser(host).ask(
                "/json/2/res.partner/search_count", b"{}", Content_Type="application/json", Authorization="bearer wrong"
            ),
            "health": lambda: Browser(host).get("/web/health"),
            "static": lambda: browser.get("/web/static/img/logo_inverse_white_206px.png"),
        }
        self.pool = concurrent.futures.ThreadPoolExecutor(len(jobs))
        self.futures = [self.pool.submit(self._work, name, job) for name, job in jobs.items()]

    def _work(self, name: str, job: t.Callable[[], Answer]) -> None:
        while not self.over.is_set():
            started = time.monotonic()
            try:
                answer = job()
            except UnicodeDecodeError:
                answer = Answer(200, {}, "picture", "")
            self.answers.append((name, answer, time.monotonic() - started))
            time.sleep(0.2)

    def stop(self) -> list[tuple[str, Answer, float]]:
        self.over.set()
        for future in self.futures:
            future.result()
        self.pool.shutdown()
        return self.answers


def refused_well(name: str, answer: Answer) -> str | None:
    """What is wrong with an answer that may have met an outage."""
    if answer.status == 503:
        return None if answer.headers.get("Retry-After") == "5" else f"{name}: 503 without Retry-After"
    if name == "json2" and answer.status == 401:
        return None  # the key is wrong, and said so: the database was asked
    if name in ("root",) and answer.status == 303 and answer.headers.get("Location", "").endswith("/odoo"):
        return None
    if answer.status != 200:
        return f"{name}: {answer.status} {answer.headers.get('Location')} {answer.body[:300]}"
    if name in ("call", "jsonrpc") and "error" in json.loads(answer.body):
        return f"{name}: {answer.body[:300]}"
    if name.startswith("xmlrpc") and ("faultCode" in answer.body or "<boolean>0" in answer.body):
        return f"{name}: {answer.body[:300]}"
    if name == "page" and "odoo.__session_info__" not in answer.body:
        return f"{name}: {answer.body[:300]}"
    return None


OUTAGES = {
    "postgres stopped": (["exec", "guardtest-postgres", "/tmp/down"], ["exec", "guardtest-postgres", "/tmp/up"]),
    "postgres frozen": (["pause", "guardtest-postgres"], ["unpause", "guardtest-postgres"]),
    "redis stopped": (["exec", "guardtest-redis", "/tmp/down"], ["exec", "guardtest-redis", "/tmp/up"]),
    "redis frozen": (["pause", "guardtest-redis"], ["unpause", "guardtest-redis"]),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_outage(odoo: str, outage: str) -> None:
    host = address(f"guardtest-{odoo}")
    browser, idle = Browser(host), Browser(host)
    for each in (browser, idle):
        each.login()
    Browser(host).json("/jsonrpc", service="common", method="version", args=[])
    kept, before = idle.session_id(), processes()
    marker = {name: len(docker("logs", name)) for name in before}
    went, came = OUTAGES[outage]

    load = Load(host, browser)
    try:
        time.sleep(3)
        docker(*went)
        try:
            time.sleep(OUTAGE_SECONDS)
            if outage != "postgres frozen":  # then every worker may be waiting for it
                assert Browser(host).get("/web/health").status == 200
        finally:
            docker(*came)
        time.sleep(8)
    finally:
        answers = load.stop()

    logs = {name: docker("logs", name)[marker[name]:] for name in before}
    wrong = {problem for name, answer, _ in answers if (problem := refused_well(name, answer))}
    assert not wrong, "\n".join(sorted(wrong))
    if outage.endswith("stopped"):
        assert sum(answer.status == 503 for _, answer, _ in answers) > 10
    assert {answer.status for name, answer, _ in answers if name == "health"} == {200}
    assert processes() == before, logs
    assert browser.logged_in()
    assert idle.logged_in()
    assert idle.session_id() == kept
    for log in logs.values():
        gone, back = log.count("is away:"), log.count("is back after")
        assert gone <= 3, log
        assert gone == back, log
        assert "Traceback" not in log, log


def test_cron_comes_back(odoo: str) -> None:
    """A scheduled job is woken at once after the outages above: the worker listens again."""
    if odoo != "prefork":
        pytest.skip("asked of the cron container")
    jobs = "SELECT max(id) FROM ir_cron"
    sql(
        "UPDATE ir_cron SET active = true, nextcall = now() AT TIME ZONE 'UTC', lastcall = NULL"
        f" WHERE id = ({jobs})"
    )
    sql("NOTIFY cron_trigger, 'odoo'", "postgres")
    wait("the job has run", lambda: sql(f"SELECT lastcall FROM ir_cron WHERE id = ({jobs})"), 15)


def test_missing_database_is_no_outage(stack: Stack, odoo: str) -> None:
    """Stock behaviour: the database selector or a page without database, not 503."""
    host = address(f"guardtest-{odoo}")
    answer = Browser(host).ask("/odoo", X_Odoo_Database="missing")
    assert answer.status != 503


def redis(*args: str) -> str:
    return docker("exec", "guardtest-redis", "redis-cli", "--user", "admin", "--pass", "admin", "--no-auth-warning",
                  "--raw", *args).rstrip("\n")


def stored(sid: str) -> dict[str, t.Any] | None:
    raw = redis("HGET", f"odoo:session:{sid[:42]}", sid[42:])
    return json.loads(raw) if raw else None


def age(sid: str, seconds: float) -> None:
    data = stored(sid)
    assert data is not None
    redis("HSET", f"odoo:session:{sid[:42]}", sid[42:], json.dumps({**data, "create_time": time.time() - seconds}))


def copy_of(browser: Browser, host: str) -> Browser:
    other = Browser(host)
    for cookie in browser.jar:
        other.jar.set_cookie(cookie)
    return other


def test_rotation(odoo: str) -> None:
    host = address(f"guardtest-{odoo}")
    browser = Browser(host)
    browser.login()
    old = browser.session_id() or ""
    assert 604000 < int(redis("TTL", f"odoo:session:{old[:42]}")) <= 604800

    # Four requests at once, all with the old cookie: all agree on the new one.
    age(old, 4 * 3600)
    same = [copy_of(browser, host) for _ in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(Browser.logged_in, same))
    new = {each.session_id() for each in same}
    assert len(new) == 1
    sid = new.pop() or ""
    assert sid != old
    assert sid[:42] == old[:42]
    assert copy_of(browser, host).logged_in()  # the old one for two minutes more

    # After that the old one goes; the new one stays.
    age(sid, 200)
    assert same[0].logged_in()
    assert stored(old) is None
    assert stored(sid) is not None
    assert redis("HLEN", f"odoo:session:{sid[:42]}") == "1"
    assert same[0].get("/web/session/logout").status == 303
    assert stored(sid) is None
    assert not copy_of(same[1], host).logged_in()


def test_devices(odoo: str) -> None:
    """What Odoo's list of devices asks of the store: is it there, and away with it."""
    host = address(f"guardtest-{odoo}")
    browser = Browser(host)
    browser.login()
    sid = browser.session_id() or ""
    script = (
        "from odoo.http import root; s = root.session_store\n"
        f"a, b = {sid[:42]!r}, 'x' * 42\n"
        "print('MISSING', s.get_missing_session_identifiers([a, b]) == {b})\n"
        "s.vacuum(3600); s.delete_from_identifiers([b])\n"
        "print('KEPT', s.get_missing_session_identifiers([a]) == set())\n"
        "s.delete_from_identifiers([a]); print('GONE', s.get_missing_session_identifiers([a]) == {a})\n"
        "try:\n    s.delete_from_identifiers('*')\nexcept ValueError:\n    print('REFUSED True')\n"
    )
    out = docker("exec", "-i", f"guardtest-{odoo}", "odoo", "shell", "-c", "/etc/odoo/odoo.conf", "-d", "odoo",
                 "--no-http", "--shell-interface=python", stdin=script)
    assert re.findall(r"(MISSING|KEPT|GONE|REFUSED) True", out) == ["MISSING", "KEPT", "GONE", "REFUSED"], out
    assert not browser.logged_in()


def test_a_session_outlives_odoo(odoo: str) -> None:
    host = address(f"guardtest-{odoo}")
    browser = Browser(host)
    browser.login()
    started = time.monotonic()
    docker("stop", "--time", "60", f"guardtest-{odoo}")
    assert time.monotonic() - started < 30  # SIGTERM reached the master
    docker("start", f"guardtest-{odoo}")
    assert copy_of(browser, wait_for_odoo(odoo)).logged_in()


def frame(payload: bytes, opcode: int = 1) -> bytes:
    mask = b"\1\2\3\4"
    assert len(payload) < 126
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + bytes(c ^ mask[i % 4] for i, c in enumerate(payload))


def send_bus(text: str) -> None:
    message = json.dumps({"type": "guardtest", "payload": text})
    sql(
        "INSERT INTO bus_bus (channel, message, create_date)"
        f""" VALUES ('["odoo","guardtest"]', '{message}', now() AT TIME ZONE 'UTC')"""
    )
    sql("""NOTIFY imbus, '[["odoo","guardtest"]]'""", "postgres")


def test_notifications_come_back(odoo: str) -> None:
    """A websocket that lives through an outage gets messages again within seconds, also the one sent too early."""
    host, port = address(f"guardtest-{odoo}"), websocket_port(odoo)
    browser = Browser(host)
    browser.login()
    with socket.create_connection((host, port), timeout=60) as sock:
        sock.sendall((
            f"GET /websocket HTTP/1.1\r\nHost: {host}:{port}\r\nOrigin: http://{host}:{port}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
            f"Cookie: session_id={browser.session_id()}\r\n\r\n"
        ).encode())
        got = b""
        while b"\r\n\r\n" not in got:
            got += sock.recv(4096)
        assert b" 101 " in got.split(b"\r\n")[0], got
        sock.sendall(frame(b'{"event_name":"subscribe","data":{"channels":["guardtest"],"last":0}}'))
        time.sleep(2)
        send_bus("before")

        def received(text: str, seconds: float) -> bool:
            nonlocal got
            deadline = time.monotonic() + seconds
            while text.encode() not in got and time.monotonic() < deadline:
                sock.settimeout(max(deadline - time.monotonic(), 0.1))
                try:
                    more = sock.recv(4096)
                except TimeoutError:
                    break
                assert more, "closed"
                got += more
            return text.encode() in got

        assert received("before", 5)
        docker("exec", "guardtest-postgres", "/tmp/down")
        time.sleep(5)
        docker("exec", "guardtest-postgres", "/tmp/up")
        send_bus("early")  # nobody listens yet
        assert received("early", 10)
        send_bus("after")
        assert received("after", 5)
