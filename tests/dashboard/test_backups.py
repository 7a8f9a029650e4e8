"""A backup is made in one folder, under a name that no request has a part in."""

from pathlib import Path

import pytest

from durableq import DurableQ, InvalidInput
from durableq.dashboard import dashboard
from tests.dashboard.client import BASE, Client
from tests.support import new_file


def backups(folder: Path) -> list[Path]:
    return sorted(folder.glob("shop-backup-*.db"))


def test_a_backup_is_beside_the_database(dq: DurableQ, client: Client, tmp_path: Path) -> None:
    dq.queue("orders").send_many([1, 2, 3])
    assert f"A copy in {tmp_path}" in client.page("/health").text
    page = client.act("/health/backup")
    (made,) = backups(tmp_path)
    assert f"{made}: 0." in page.text
    with DurableQ(made) as copy:
        assert copy.store.count_ready("orders", 10).number == 3


@pytest.mark.parametrize("name", ["file", "to", "name", "folder", "backup_dir", "target"])
def test_a_request_has_no_part_in_the_path(client: Client, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    wanted = str(elsewhere / "mine.db")
    page = client.act(f"/health/backup?{name}={wanted}", **{name: wanted})
    assert page.status == 200
    assert [*elsewhere.iterdir()] == []
    assert len(backups(tmp_path)) == 1


def test_a_backup_is_in_the_given_folder(dq: DurableQ, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    with pytest.raises(InvalidInput, match="is no folder for backups"):
        dashboard(dq, backup_dir=folder)
    folder.mkdir()
    with Client.of(dq, backup_dir=folder) as client:
        page = client.act("/health/backup")
        assert page.status == 200, page.text
    assert (len(backups(folder)), backups(tmp_path)) == (1, [])


def test_two_backups_are_not_made_at_once(dq: DurableQ, tmp_path: Path) -> None:
    app = dashboard(dq)
    with Client(app, base_url=BASE) as client, app.state.backups.turn:
        page = client.act("/health/backup")
        assert (page.status, "A backup is being made." in page.text) == (409, True)
    assert backups(tmp_path) == []


def test_a_folder_that_is_gone_is_a_sentence(dq: DurableQ, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    with Client.of(dq, backup_dir=folder) as client:
        folder.rmdir()
        page = client.act("/health/backup")
    assert page.status in {503, 500, 409, 404}
    assert "which is a defect" not in page.text


def test_of_postgres_the_command_is_named(postgres_tables_url: str, tmp_path: Path) -> None:
    with DurableQ(postgres_tables_url) as dq, Client.of(dq) as client:
        page = client.page("/health")
        assert "pg_dump --format=custom" in page.text
        assert "/health/backup" not in page.values("form", "action")
        page = client.act("/health/backup")
        assert (page.status, "pg_dump" in page.text) == (501, True)
        with pytest.raises(InvalidInput, match="is no file, so the dashboard makes no backups"):
            dashboard(dq, backup_dir=tmp_path)


def test_a_store_in_memory_has_none() -> None:
    with DurableQ("memory://") as dq, Client.of(dq) as client:
        assert client.act("/health/backup").status == 501


def test_a_copy_has_the_kind_of_name_of_its_database(tmp_path: Path) -> None:
    with DurableQ(new_file(tmp_path / "shop")) as dq, Client.of(dq) as client:
        dq.queue("orders")
        assert client.act("/health/backup").status == 200
    assert len(backups(tmp_path)) == 1
