"""Where processes of a study agree on who runs what: a database by URL, or a journal file."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

HEARTBEAT = 15  # seconds; a worker that is silent for four of them is gone
JOURNAL = "journal:"
# what a database says where two processes make its tables at once
_AT_ONCE = ("already exists", "IntegrityError", "UniqueViolation", "Duplicate entry", "locked")
_TRIES, _WAIT = 20, 0.25
# by database: SQLAlchemy's name of a driver, and its package
_DRIVERS = {
    "postgresql": ("psycopg", "psycopg[binary]"),
    "mysql": ("pymysql", "pymysql"),
    "mariadb": ("pymysql", "pymysql"),
}


def open_study(name: str, out: Path, storage: str | None = None) -> optuna.Study:
    """Open the study in its storage, or make it.

    Args:
        name: Its name there.
        out: Folder of the study; SQLite lies in it where no storage is named.
        storage: ``journal:PATH`` for a shared file system, or a URL of SQLAlchemy such as
            ``postgresql+psycopg://host/database``. SQLite is for one machine.

    Raises:
        ValueError: If the storage is out of reach.
    """
    try:
        import optuna  # noqa: PLC0415 - an extra
    except ImportError:
        raise ValueError(
            "`tl study run` deals out runs with Optuna, which is not installed; pip install "
            "'tl[study]'."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    url = f"sqlite:///{(out / 'study.db').absolute()}" if storage is None else storage
    if not url.startswith(JOURNAL) and "://" not in url:
        raise ValueError(
            f"`--storage` must be journal:PATH or a URL such as postgresql+psycopg://host/"
            f"database, got {storage!r}."
        )
    for left in reversed(range(_TRIES)):
        try:
            return _connect(name, url)
        except ImportError as error:
            raise ValueError(
                f"The storage {_masked(url)} needs a driver that is not installed"
                f"{_driver(url) or f': {error}'}."
            ) from None
        except Exception as error:  # noqa: BLE001 - of whatever database it is
            reason = " ".join(str(error).split())
            if left and any(word in reason for word in _AT_ONCE):
                time.sleep(_WAIT)
                continue
            raise ValueError(
                f"The storage {_masked(url)} is out of reach: {reason[:200]}"
            ) from None
    raise AssertionError  # the last try returns or raises


def _connect(name: str, url: str) -> optuna.Study:
    import optuna  # noqa: PLC0415 - an extra
    from optuna.storages import journal  # noqa: PLC0415

    backend: optuna.storages.BaseStorage
    if url.startswith(JOURNAL):
        path = Path(url.removeprefix(JOURNAL))
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = journal.JournalFileOpenLock(str(path))
        backend = optuna.storages.JournalStorage(
            journal.JournalFileBackend(str(path), lock_obj=lock)
        )
    else:
        waits = {"timeout": 60} if url.startswith("sqlite") else {}
        backend = optuna.storages.RDBStorage(
            url,
            heartbeat_interval=HEARTBEAT,
            grace_period=4 * HEARTBEAT,
            engine_kwargs={"connect_args": waits} if waits else {},
        )
    return optuna.create_study(
        study_name=name,
        storage=backend,
        sampler=optuna.samplers.RandomSampler(),
        load_if_exists=True,
    )


def _driver(url: str) -> str:
    """Say how to install a driver, and which URL names it; empty for a database unknown here."""
    database, _, named = url.partition("://")[0].partition("+")
    driver, package = _DRIVERS.get(database, ("", ""))
    begins = "" if named else f" and begin the URL with {database}+{driver}://"
    return f": pip install '{package}'{begins}" if package and named in ("", driver) else ""


def _masked(url: str) -> str:
    """Leave out a password."""
    head, at, tail = url.rpartition("@")
    scheme, _, who = head.partition("://")
    return f"{scheme}://{who.partition(':')[0]}{at}{tail}" if at else url
