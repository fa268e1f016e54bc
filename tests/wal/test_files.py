import os

import pytest

from holdfast.wal import Options, OsFiles, Recovery, open_log
from holdfast.wal.files import boot, created, file_system_of, host, put, text_of, write_all
from tests.wal.helpers import payloads

MOUNTS = """\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 21 0:40 / /data rw - nfs4 server:/data rw
31 30 0:41 / /data/local rw - xfs /dev/vdb rw
32 21 0:42 / /with\\040blank rw shared:1 - cifs //server/share rw
33 21 0:43 / /data rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/x/y", "ext4"),
        ("/data/journal", "tmpfs"),
        ("/data/local/j", "xfs"),
        ("/with blank/j", "cifs"),
        ("/database", "ext4"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    assert file_system_of(path, MOUNTS) == kind
    assert file_system_of(path, "") == ""


def test_this_machine_tells_its_file_system_name_and_start(folder: OsFiles) -> None:
    folder.make_folder()
    assert folder.kind() != "" or not os.path.exists("/proc/self/mountinfo")
    assert host()
    assert boot() == boot()
    assert text_of("/proc/no such file") == ""


def test_a_system_without_allocation_gets_zeros_written(folder: OsFiles) -> None:
    files = OsFiles(folder.path, allocate=None, sync=os.fsync)
    log = open_log(files)
    log.wait_synced(log.append([b"kept"]))
    log.close()
    assert payloads(files, Options()) == [b"kept"]


def test_a_file_is_private_and_never_opened_through_a_link(folder: OsFiles) -> None:
    folder.make_folder()
    os.symlink("/etc/passwd", f"{folder.path}/MARK")
    with pytest.raises(OSError, match="symbolic links"):
        folder.open("MARK")
    handle = folder.create("FORMAT")
    assert not os.get_inheritable(handle)
    folder.close(handle)


def test_a_second_name_is_refused_by_saying_so_or_by_an_error(folder: OsFiles) -> None:
    folder.make_folder()
    put(folder, "a", b"content", "a.tmp")
    assert folder.link("a", "b")
    with pytest.raises(FileExistsError):
        folder.link("a", "b")

    def other_disk(*names: object, **options: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    assert OsFiles(folder.path, link=other_disk).link("a", "c") is False


def test_a_file_that_could_not_be_finished_is_removed(folder: OsFiles) -> None:
    folder.make_folder()
    with pytest.raises(TypeError), created(folder, "new") as handle:
        write_all(folder, handle, None, 0)  # type: ignore[arg-type]
    assert folder.list() == []


def test_a_read_gives_all_that_was_asked_for_or_all_there_is(folder: OsFiles) -> None:
    folder.make_folder()
    with created(folder, "f") as handle:
        write_all(folder, handle, b"0123456789", 0)
        assert folder.read(handle, 4, 3) == b"3456"
        assert folder.read(handle, 100, 3) == b"3456789"
        assert folder.read(handle, 100, 30) == b""
        assert folder.same(handle, "f")
        assert not folder.same(handle, "g")


def test_a_folder_below_missing_folders_is_made(folder: OsFiles) -> None:
    files = OsFiles(f"{folder.path}/deeper/still")
    recovery = Recovery.begin(files)
    recovery.close()
    assert files.list() == ["LOCK"]
    assert files.free() > 0
    assert OsFiles(f"{folder.path}/nowhere").list() == []
