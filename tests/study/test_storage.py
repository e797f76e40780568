from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.studies import starts, write_study
from tl.study import storage
from tl.study.storage import open_study

pytest.importorskip("optuna", reason="needs tl[study]")


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_study_is_opened_again(tmp_path: Path, kind: str) -> None:
    where = f"journal:{tmp_path / 'a' / 'journal.log'}" if kind == "journal" else None
    open_study("a", tmp_path, where).enqueue_trial({}, user_attrs={"point": "b"})
    [trial] = open_study("a", tmp_path, where).trials
    assert trial.user_attrs == {"point": "b"}


def test_a_storage_out_of_reach_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"\A`--storage` must be journal:PATH or a URL .*'abc'\.\Z"
    ):
        open_study("a", tmp_path, "abc")
    nowhere = f"sqlite:///{tmp_path}/none/study.db"
    with pytest.raises(ValueError, match=r"\AThe storage sqlite:///[^\n]* is out of reach: [^\n]*"):
        open_study("a", tmp_path, nowhere)


def test_tables_that_another_process_makes_meanwhile_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [
        "(sqlite3.IntegrityError) UNIQUE constraint failed: alembic_version.version_num",
        "(sqlite3.OperationalError) table studies already exists",
        "(psycopg.errors.UniqueViolation) duplicate key value violates unique constraint",
    ]
    connect = storage._connect

    def at_once(name: str, url: str) -> object:
        if said:
            raise RuntimeError(said.pop())
        return connect(name, url)

    monkeypatch.setattr(storage, "_connect", at_once)
    monkeypatch.setattr(storage, "_WAIT", 0.0)
    assert open_study("a", tmp_path).study_name == "a"
    assert not said


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        (
            "postgresql://me:secret@host/db",
            r"pip install 'psycopg\[binary\]' and begin the URL with postgresql\+psycopg://\.",
        ),
        ("postgresql+psycopg://host/db", r"pip install 'psycopg\[binary\]'\."),
        ("mysql://host/db", r"pip install 'pymysql' and begin the URL with mysql\+pymysql://\."),
        ("mysql+mysqldb://host/db", r"not installed: No module named 'driver'\."),
        ("oracle://host/db", r"not installed: No module named 'driver'\."),
    ],
)
def test_a_driver_that_is_missing_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, advice: str
) -> None:
    def connect(*_: str) -> object:
        raise ImportError("No module named 'driver'")

    monkeypatch.setattr(storage, "_connect", connect)
    with pytest.raises(ValueError, match=rf"\AThe storage .*{advice}\Z") as error:
        open_study("a", tmp_path, url)
    assert "secret" not in str(error.value)


def test_a_storage_of_no_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`--storage` must be .*, got ''\."):
        open_study("a", tmp_path, "")


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="The storage") as error:
        open_study("a", tmp_path, "postgresql+psycopg://me:secret@127.0.0.1:1/db")
    assert "secret" not in str(error.value)
    assert "me@127.0.0.1:1/db" in str(error.value)


def _server() -> Path | None:
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """A folder for a server, outside of pytest's, which another pytest of root closes to others."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made) / "data"


def _folder_of(user: str, folder: Path) -> list[str]:
    """Make a folder for a server; where the test is root, which servers refuse, give it to `user`.

    Returns:
        What to write before a command, for `user` to run it.
    """
    folder.mkdir()
    if os.geteuid():
        return []
    if shutil.which("runuser") is None or not _is_user(user):
        pytest.skip(f"needs runuser and the user {user} to start a server, which refuses root")
    shutil.chown(folder, user)
    return ["runuser", "-u", user, "--"]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@pytest.fixture
def postgresql(own_folder: Path) -> Iterator[str]:
    """A server of the test's own, as a URL."""
    pytest.importorskip("psycopg", reason="needs psycopg[binary]")
    server = _server()
    if server is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    data = own_folder
    as_user = _folder_of("postgres", data)
    port = _free_port()
    made = subprocess.run(
        [*as_user, str(server / "initdb"), "-D", str(data), "-A", "trust", "-U", "tl"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"initdb: {made.stderr[-200:]}")
    control = [*as_user, str(server / "pg_ctl"), "-D", str(data), "-w"]
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {data}"
    subprocess.run(
        [*control, "-l", str(data / "log"), "-o", options, "start"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield f"postgresql+psycopg://tl@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, capture_output=True)


@pytest.fixture
def mysql(own_folder: Path) -> Iterator[str]:
    """A server of the test's own, as a URL: MariaDB, which Debian has for MySQL."""
    pymysql = pytest.importorskip("pymysql", reason="needs pymysql")
    install = shutil.which("mariadb-install-db")
    server = shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin")
    if install is None or server is None:
        pytest.skip("needs MariaDB: apt-get install mariadb-server")
    data = own_folder
    as_user = _folder_of("mysql", data)
    port = _free_port()
    where = ["--no-defaults", f"--datadir={data}"]
    made = subprocess.run(
        [*as_user, install, *where, "--skip-test-db", "--auth-root-authentication-method=normal"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"mariadb-install-db: {made.stderr[-200:]}")
    listening = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={data / 'socket'}"]
    process = subprocess.Popen(
        [*as_user, server, *where, *listening, f"--log-error={data / 'log'}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for left in reversed(range(120)):
            try:
                connection = pymysql.connect(host="127.0.0.1", port=port, user="root")
                break
            except pymysql.err.OperationalError:
                assert left
                assert process.poll() is None, (data / "log").read_text()[-2000:]
                time.sleep(0.5)
        with connection, connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE tl")
        yield f"mysql+pymysql://root@127.0.0.1:{port}/tl"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("database", ["postgresql", "mysql"])
def test_two_processes_share_a_study_through_a_database(
    tmp_path: Path, request: pytest.FixtureRequest, database: str
) -> None:
    from tests.study.test_running import start  # noqa: PLC0415 - beside its own tests

    url = request.getfixturevalue(database)
    (tmp_path / "study").mkdir()
    os.chdir(tmp_path / "study")
    path = write_study(tmp_path / "study")
    both = [start(path, 1, 0.1, url) for _ in range(2)]
    for process in both:
        _, said = process.communicate(timeout=600)
        assert process.returncode == 0, said[-2000:]
    assert len(starts(tmp_path / "study" / "out")) == 10
    assert set(starts(tmp_path / "study" / "out").values()) == {1}
