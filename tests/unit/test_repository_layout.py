"""Folders as people make them, and what is found in them. `files` are made empty: nothing here opens a model."""

import os
from pathlib import Path

import pytest

from fastserve.repository.layout import Found, find_models, version_number


def make(folder: Path, *files: str) -> Path:
    """Make files, and folders where the name ends with a slash."""
    folder.mkdir(exist_ok=True)
    for name in files:
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return folder


def served(found: Found, root: Path) -> dict[str, dict[int, str]]:
    return {
        model.name: {version: str(path.relative_to(root)) for version, path in model.versions.items()}
        for model in found.models
    }


def said(found: Found, root: Path) -> list[str]:
    problems = [*found.problems, *[problem for model in found.models for problem in model.problems]]
    return [problem.replace(f"{root}/", "").replace(str(root), "ROOT") for problem in problems]


LAYOUTS: dict[str, tuple[list[str], dict[str, dict[int, str]], list[str]]] = {
    "versions": (["a/1/model.onnx", "a/2/model.onnx"], {"a": {1: "a/1/model.onnx", 2: "a/2/model.onnx"}}, []),
    "several models": (
        ["b/1/model.onnx", "a/3/model.onnx"],
        {"a": {3: "a/3/model.onnx"}, "b": {1: "b/1/model.onnx"}},
        [],
    ),
    "any name, when it is the only one": (["a/1/net.onnx", "a/1/notes.txt"], {"a": {1: "a/1/net.onnx"}}, []),
    "model.onnx among several": (["a/1/model.onnx", "a/1/old.onnx"], {"a": {1: "a/1/model.onnx"}}, []),
    "several, none of them model.onnx": (
        ["a/1/x.onnx", "a/1/y.onnx"],
        {"a": {}},
        ["a/1: several model files and none is model.onnx: x.onnx, y.onnx"],
    ),
    "name/name.onnx": (["a/a.onnx", "a/labels.txt"], {"a": {1: "a/a.onnx"}}, []),
    "echo models": (["a/1/model.echo"], {"a": {1: "a/1/model.echo"}}, []),
    "leading zeros": (["a/00000123/model.onnx"], {"a": {123: "a/00000123/model.onnx"}}, []),
    "version 0": (["a/0/model.onnx"], {"a": {0: "a/0/model.onnx"}}, []),
    "one number twice": (
        ["a/001/model.onnx", "a/1/model.onnx", "a/01/model.onnx"],
        {"a": {1: "a/1/model.onnx"}},
        ["a: 01 and 1 are both version 1; 1 is served", "a: 001 and 1 are both version 1; 1 is served"],
    ),
    "no numbers": (
        ["resnet/v1/model.onnx", "resnet/model.tmp", "ok/1/model.onnx"],
        {"ok": {1: "ok/1/model.onnx"}},
        ["resnet: no numeric version folder and no resnet.onnx; found v1, model.tmp"],
    ),
    "other names beside numbers": (
        ["a/1/model.onnx", "a/v2/model.onnx", "a/tmp/", "a/README.md", "a/.git/"],
        {"a": {1: "a/1/model.onnx"}},
        ["a: not version numbers, so not served: tmp, v2"],
    ),
    "a model file beside version folders": (
        ["a/1/model.onnx", "a/a.onnx"],
        {"a": {1: "a/1/model.onnx"}},
        ["a: not served, because there are version folders: a.onnx"],
    ),
    "an empty version": (
        ["a/1/", "a/2/model.onnx"],
        {"a": {2: "a/2/model.onnx"}},
        ["a/1: no model.onnx; found nothing"],
    ),
    "a version of something else": (["a/1/model.pb"], {"a": {}}, ["a/1: no model.onnx; found model.pb"]),
    "a SavedModel": (
        ["a/1/saved_model.pb", "a/1/variables/x"],
        {"a": {}},
        [
            "a/1: no model.onnx; found variables, saved_model.pb; convert it:"
            " python -m tf2onnx.convert --saved-model a/1 --output a/1/model.onnx"
        ],
    ),
    "a folder called model.onnx": (["a/1/model.onnx/"], {"a": {}}, ["a/1/model.onnx: no model.onnx; found nothing"]),
    "an empty model": (
        ["a/", "b/1/model.onnx"],
        {"b": {1: "b/1/model.onnx"}},
        ["a: no numeric version folder and no a.onnx; found nothing"],
    ),
    "a file in the wrong place": (
        ["net.onnx", "a/1/model.onnx"],
        {"a": {1: "a/1/model.onnx"}},
        ["net.onnx: not served from here; move it to net/net.onnx"],
    ),
    "hidden names": ([".git/1/model.onnx", "a/1/model.onnx", "a/1/.model.onnx.swp"], {"a": {1: "a/1/model.onnx"}}, []),
    "nothing": ([], {}, ["ROOT: neither version folders nor models; found nothing"]),
    "nothing that is one": (
        ["README.md", *[f"x{at}.bin" for at in range(7)]],
        {},
        ["ROOT: neither version folders nor models; found README.md, x0.bin, x1.bin, x2.bin, x3.bin and 3 more"],
    ),
    "names that URLs cannot hold": (
        ["a:b/1/model.onnx", "50%/1/model.onnx", "c\\d/1/model.onnx", "e\nf/1/model.onnx", "ok/1/model.onnx"],
        {"ok": {1: "ok/1/model.onnx"}},
        [
            "50%: a model's name cannot have % in it",
            "a:b: a model's name cannot have : in it",
            "c\\d: a model's name cannot have \\ in it",
            "e\\nf: a model's name cannot have characters that are not printable, or bytes that are not UTF-8",
        ],
    ),
    "names of all the world": (["modèle été/1/model.onnx"], {"modèle été": {1: "modèle été/1/model.onnx"}}, []),
    "a number too large": (
        ["a/1/model.onnx", "a/9223372036854775808/model.onnx", f"a/{'9' * 200}/model.onnx"],
        {"a": {1: "a/1/model.onnx"}},
        [f"a: not version numbers, so not served: 9223372036854775808, {'9' * 200}"],
    ),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_a_folder_of_models(case: str, tmp_path: Path) -> None:
    files, models, problems = LAYOUTS[case]
    found = find_models(make(tmp_path, *files))
    assert served(found, tmp_path) == models
    assert sorted(said(found, tmp_path)) == sorted(problems)


@pytest.mark.parametrize(
    ("files", "versions"),
    [
        (["1/model.onnx", "2/net.onnx"], {1: "1/model.onnx", 2: "2/net.onnx"}),
        (["resnet.onnx"], {1: "resnet.onnx"}),
    ],
)
def test_a_single_models_folder(files: list[str], versions: dict[int, str], tmp_path: Path) -> None:
    folder = make(tmp_path / "resnet", *files)
    assert served(find_models(folder), folder) == {"resnet": versions}
    assert find_models(folder).problems == ()


def test_the_current_folder_has_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make(tmp_path / "resnet", "1/model.onnx"))
    assert [model.name for model in find_models(Path()).models] == ["resnet"]


@pytest.mark.parametrize("name", ["net.onnx", "net.echo", "net.ONNX"])
def test_a_single_file(name: str, tmp_path: Path) -> None:
    make(tmp_path, name)
    assert served(find_models(tmp_path / name), tmp_path) == {"net": {1: name}}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("gone.onnx", "gone.onnx: No such file or directory"),
        ("net.pb", "net.pb: not a model file (.onnx, .echo) and not a folder"),
        ("pipe.onnx", "pipe.onnx: not a regular file"),
        ("a:b.onnx", "a:b.onnx: a model's name cannot have : in it"),
        (
            "a\tb.onnx",
            "a\\tb.onnx: a model's name cannot have characters that are not printable, or bytes that are not UTF-8",
        ),
        ("net.pb/x", "net.pb/x: Not a directory"),
        ("nett.pb", "nett.pb: No such file or directory; did you mean net.pb?"),
        ("shop/shop", "shop/shop: No such file or directory; shop itself holds versions"),
    ],
)
def test_a_path_that_cannot_be_served(name: str, problem: str, tmp_path: Path) -> None:
    make(tmp_path, "net.pb", "a:b.onnx", "a\tb.onnx", "shop/1/model.onnx")
    os.mkfifo(tmp_path / "pipe.onnx")
    found = find_models(tmp_path / name)
    assert (found.models, said(found, tmp_path)) == ((), [problem])


def test_a_name_that_is_not_text(tmp_path: Path) -> None:
    os.makedirs(os.fsencode(tmp_path) + b"/caf\xe9/1")
    assert said(find_models(tmp_path), tmp_path)[-1].startswith("caf\\udce9: a model's name cannot have")


def test_folders_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path, "a/1/model.onnx", "b/1/model.onnx", "b/2/model.onnx", "c/1/model.onnx")
    scan = os.scandir

    def guarded(folder: Path) -> object:
        if str(folder).endswith(("/a", "/b/1")):
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    found = find_models(root)
    assert served(found, root) == {"b": {2: "b/2/model.onnx"}, "c": {1: "c/1/model.onnx"}}
    assert said(found, root) == ["a: Permission denied", "b/1: Permission denied"]


def test_links_inside_the_path_are_followed(tmp_path: Path) -> None:
    # As volumes of configuration are mounted: everything is a link to a hidden folder beside it.
    root = make(tmp_path, "..data_7/a/1/model.onnx")
    (root / "..data").symlink_to("..data_7")
    (root / "a").symlink_to("..data/a")
    assert served(find_models(root), root) == {"a": {1: "a/1/model.onnx"}}


def test_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    outside = make(tmp_path / "outside", "1/model.onnx")
    root = make(tmp_path / "models", "b/1/", "b/2/model.onnx")
    (root / "a").symlink_to(outside)
    (root / "b/1/model.onnx").symlink_to(outside / "1/model.onnx")
    (root / "b/3").symlink_to(outside / "1")
    found = find_models(root)
    assert served(found, root) == {"b": {2: "b/2/model.onnx"}}
    advice = "a link that leads out of the served path is not followed; serve its target"
    assert said(found, root) == [
        f"a: {advice}",
        f"b/3: {advice}",
        "b/1: no model.onnx; found model.onnx; links that lead elsewhere are not followed",
    ]


def test_a_path_may_be_a_link_itself(tmp_path: Path) -> None:
    make(tmp_path / "real", "a/1/model.onnx")
    (tmp_path / "models").symlink_to("real")
    assert served(find_models(tmp_path / "models"), tmp_path) == {"a": {1: "models/a/1/model.onnx"}}


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("1", 1),
        ("0", 0),
        ("00000123", 123),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("9" * 5000, None),
        ("-1", None),
        ("+1", None),
        ("1_0", None),
        ("1.0", None),
        ("1e3", None),
        (" 1", None),
        ("", None),
        ("²", None),
        ("\u0661", None),
        ("v1", None),
    ],
)
def test_version_numbers(name: str, number: int | None) -> None:
    assert version_number(name) == number
