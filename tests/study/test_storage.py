from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
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


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """A server of the test's own, as a URL."""
    pytest.importorskip("psycopg", reason="needs psycopg[binary]")
    server = _server()
    if server is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    as_user: list[str] = []
    data = tmp_path / "pg"
    data.mkdir()
    if os.geteuid() == 0:  # the server refuses to run as root
        if shutil.which("runuser") is None:
            pytest.skip("needs runuser to start PostgreSQL as another user than root")
        as_user = ["runuser", "-u", "postgres", "--"]
        for folder in (data, *data.parents):
            if folder == Path("/tmp"):  # noqa: S108 - where pytest's folders are
                break
            folder.chmod(0o755)
        shutil.chown(data, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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


def test_two_processes_share_a_study_through_postgresql(tmp_path: Path, postgres: str) -> None:
    from tests.study.test_running import start  # noqa: PLC0415 - beside its own tests

    (tmp_path / "study").mkdir()
    os.chdir(tmp_path / "study")
    path = write_study(tmp_path / "study")
    both = [start(path, 1, 0.1, postgres) for _ in range(2)]
    for process in both:
        _, said = process.communicate(timeout=600)
        assert process.returncode == 0, said[-2000:]
    assert len(starts(tmp_path / "study" / "out")) == 10
    assert set(starts(tmp_path / "study" / "out").values()) == {1}
    assert sys.executable
