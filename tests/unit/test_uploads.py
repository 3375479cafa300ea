"""Models that come with load calls: where their files may lie, and whose their folders are."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.config import ModelConfig
from fastserve.engine.registry import OnDisk
from fastserve.engine.uploads import MAX_FILES, PREFIX, Upload, Uploads, check_names, read_upload
from fastserve.errors import InvalidRequest, LoadRefused
from tests.support import models


@given(st.lists(st.text(st.sampled_from("/.1a\\\0é \n")), min_size=1, unique=True))
def test_files_lie_below_their_folder_or_are_refused(tmp_path_factory: pytest.TempPathFactory, names: list[str]):
    try:
        check_names("m", names)
    except InvalidRequest:
        return
    upload = Upload("m", str(tmp_path_factory.mktemp("uploads")))
    for name in names:
        upload.write(name, name.encode())
    below = upload.folder / "m"
    found = {str(path.relative_to(below)): path.read_text() for path in below.rglob("*") if path.is_file()}
    assert found == {name: name for name in names}
    upload.remove()
    assert not upload.folder.exists()


@pytest.mark.parametrize("model", ["", "a/b", "..", "a\\b", "a\nb", "é" * 128])
def test_a_model_is_named_as_one_on_disk(model: str):
    with pytest.raises(InvalidRequest, match="name"):
        check_names(model, ["1/model.onnx"])


def test_there_are_not_too_many_files():
    check_names("m", [str(n) for n in range(MAX_FILES)])
    with pytest.raises(InvalidRequest, match=f"at most {MAX_FILES} files"):
        check_names("m", [str(n) for n in range(MAX_FILES + 1)])


def test_nobody_else_may_look(tmp_path: Path):
    upload = Upload("m", str(tmp_path))
    upload.write("1/model.onnx", b"x")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (upload.folder, *upload.folder.rglob("*"))]
    assert [mode & 0o077 for mode in modes] == [0] * 4


def test_a_folder_is_kept_by_who_calls_or_who_took_it_and_else_left_over(tmp_path: Path):
    upload, other = Upload("m", str(tmp_path)), Upload("m", str(tmp_path))
    uploads = Uploads()
    uploads.take(upload.folder)
    upload.release()
    Upload("m", str(tmp_path)).remove()
    assert (upload.folder.exists(), other.folder.exists()) == (True, True)
    other.release()  # nobody took it
    Upload("m", str(tmp_path)).remove()
    assert (upload.folder.exists(), other.folder.exists()) == (True, False)
    uploads.keep_only([upload.folder])
    assert (upload.folder.exists(), len(uploads)) == (True, 1)
    uploads.keep_only([])
    assert (list(tmp_path.glob(f"{PREFIX}*")), len(uploads)) == ([], 0)
    with pytest.raises(LoadRefused, match="send them again"):
        uploads.take(upload.folder)


def test_no_room_is_told(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(LoadRefused, match="cannot store"):
        Upload("m", str(tmp_path / "file"))


def test_what_is_configured_and_triton_does_not_say_stays(tmp_path: Path):
    upload = Upload("m", str(tmp_path))
    upload.write("2/model.onnx", models.tiny().SerializeToString())
    configured = ModelConfig(name="m", max_batch_rows=5, non_finite="error", versions=[1], classes=("a",))
    known = OnDisk(tmp_path, configured, "all", {}, {})
    disk, found = read_upload("m", upload.folder / "m", '{"instance_group": [{"count": 3}]}', known)
    config = disk.config
    bare = ModelConfig(name="m")
    assert (config.non_finite, config.max_batch_rows, config.versions) == ("error", bare.max_batch_rows, None)
    assert (found.fields, list(disk.versions), disk.policy) == ({"slots": 3}, [2], "latest")
    upload.remove()
