"""Contents of files enter the identity of a run; their place does not."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from PIL import Image

import slnlab.storage.cache
from slnlab.config import CONF_DIR, compose, contents
from slnlab.config.container import container_of
from slnlab.config.contents import changes, digests, parts, source_contents, unverified
from slnlab.errors import ConfigError, DataError
from slnlab.record.input_files import refuse_changed
from slnlab.record.run_directory import RunDirectory
from slnlab.record.sweep_plan import run_statuses
from slnlab.storage import hashes as file_hashes
from slnlab.train import train
from slnlab.training.before_running import shared_directories
from slnlab.training.settling import settle


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of hashes."""
    monkeypatch.delenv("SLNLAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for kept in (file_hashes._hashes, file_hashes._loaded, file_hashes._looks):
        kept.clear()  # type: ignore[attr-defined]
    return tmp_path / "cache" / "slnlab" / "contents"


def images(root: Path) -> Path:
    for split in ("train", "test"):
        for name, grey in (("cat", 10), ("dog", 200)):
            (root / split / name).mkdir(parents=True)
            for number in range(6):
                Image.new("L", (8, 8), grey + number).save(root / split / name / f"{number}.png")
    return root


def folder(root: Path, *more: str) -> DictConfig:
    small = ("model=cnn", "data.image_size=8", "data.padding=1", "data.workers=0", "data.batch_size=4", "method=ce")
    quick = ("trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.progress=false")
    return compose(["data=folder", f"data.source.root={root}", *small, *quick, *more])


def blank(path: Path) -> None:
    Image.new("L", (8, 8), 99).save(path)


# What is another run


def test_replacing_an_image_changes_the_identity(tmp_path: Path) -> None:
    root = images(tmp_path / "photos")
    before = settle(folder(root)).subdir
    assert settle(folder(root)).subdir == before
    blank(root / "train" / "cat" / "3.png")
    assert settle(folder(root)).subdir != before


def test_a_copied_folder_keeps_the_identity(tmp_path: Path) -> None:
    root = images(tmp_path / "photos")
    shutil.copytree(root, tmp_path / "scratch")
    assert settle(folder(root)).subdir == settle(folder(tmp_path / "scratch")).subdir
    blank(tmp_path / "scratch" / "test" / "dog" / "0.png")
    assert settle(folder(root)).subdir != settle(folder(tmp_path / "scratch")).subdir


def test_a_change_of_equal_size_and_time_is_noticed(tmp_path: Path) -> None:
    root = images(tmp_path / "photos")
    image = root / "train" / "cat" / "0.png"
    before, stat = settle(folder(root)).subdir, image.stat()
    content = bytearray(image.read_bytes())
    content[-1] ^= 1
    image.write_bytes(content)
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (image.stat().st_size, image.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert settle(folder(root)).subdir != before


ARRAYS = {
    "fashion_mnist": "FashionMNIST/raw/train-labels-idx1-ubyte",
    "cifar10": "cifar-10-batches-py/data_batch_2",
    "cifar100": "cifar-100-python/train",
    "clothing1m": "annotations/noisy_label_kv.txt",
}


@pytest.mark.parametrize("name", ARRAYS)
def test_changing_a_data_file_in_place_changes_the_identity(tmp_path: Path, name: str) -> None:
    file = tmp_path / ARRAYS[name]
    file.parent.mkdir(parents=True)
    seen = set()
    for content in (None, "images/0/1.jpg 3\n", "images/0/1.jpg 4\n"):
        if content is not None:
            file.write_text(content)
        seen.add(settle(compose([f"data={name}", f"data.source.root={tmp_path}"])).subdir)
    assert len(seen) == 3


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist"])
def test_files_to_download_count_as_the_published_ones(tmp_path: Path, name: str) -> None:
    config = compose([f"data={name}", f"data.source.root={tmp_path / 'nowhere'}"])
    assert digests(container_of(config))["data.source"] == config.data.source.published
    assert not unverified(settle(config).container)


PUBLISHED = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not PUBLISHED.exists(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_published_files_have_the_published_digest(tmp_path: Path) -> None:
    import gzip

    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in PUBLISHED.glob("*.gz"):
        (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    config = compose(["data=fashion_mnist", f"data.source.root={tmp_path}"])
    found = source_contents("data.source", container_of(config)["data"]["source"])
    assert found is not None
    assert (found.digest, len(found.parts)) == (config.data.source.published, 4)


def test_changing_donor_images_changes_the_identity(tmp_path: Path) -> None:
    (tmp_path / "cifar-100-python").mkdir()
    seen = set()
    for content in ("a", "b"):
        (tmp_path / "cifar-100-python" / "train").write_text(content)
        seen.add(settle(compose(["data=cifar10", f"data.source.root={tmp_path}", "noise=open_set"])).subdir)
    assert len(seen) == 2


# Sources of one's own


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DictConfig]:
    """A data set whose source has these keys."""
    methods = "def prepare(self): ...\n    def load(self, split): ..."
    (tmp_path / "mine.py").write_text(f"class Mine:\n    def __init__(self, **keys): ...\n    {methods}\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def composed(**source: Any) -> DictConfig:
        (tmp_path / "conf" / "data").mkdir(parents=True, exist_ok=True)
        node = OmegaConf.load(CONF_DIR / "data" / "digits.yaml")
        node.data.source = {"_target_": "mine.Mine", **source}
        node.data.name = "mine"
        (tmp_path / "conf" / "data" / "mine.yaml").write_text("# @package _global_\n" + OmegaConf.to_yaml(node))
        return compose([f"hydra.searchpath=[{tmp_path / 'conf'}]", "data=mine"])

    return composed


def test_listed_files_of_a_source_enter_the_identity_by_content(tmp_path: Path, own: Any) -> None:
    for root in ("a", "b"):
        (tmp_path / root / "images" / "deep").mkdir(parents=True)
        (tmp_path / root / "images" / "deep" / "1.bin").write_text("1")
        (tmp_path / root / "labels.csv").write_text("x")
        (tmp_path / root / "notes.txt").write_text(root)
    for files in (["images", "labels.csv"], ["**/*.bin", "labels.csv"]):
        first, second = (own(root=str(tmp_path / root), files=files) for root in ("a", "b"))
        assert settle(first).subdir == settle(second).subdir, "notes.txt is not listed"
    (tmp_path / "b" / "images" / "deep" / "1.bin").write_text("2")
    assert settle(first).subdir != settle(second).subdir


@pytest.mark.parametrize("files", [{}, {"files": ["*.npz"]}])
def test_files_named_by_other_keys_enter_the_identity(tmp_path: Path, own: Any, files: dict[str, Any]) -> None:
    assert settle(own(root="a")).subdir != settle(own(root="b")).subdir
    (tmp_path / "x.txt").write_text("1")
    shutil.copy(tmp_path / "x.txt", tmp_path / "y.txt")
    (tmp_path / "data").mkdir()
    source = files | {"root": str(tmp_path / "data")}
    before = settle(own(labels=str(tmp_path / "x.txt"), **source)).subdir
    assert settle(own(labels=str(tmp_path / "y.txt"), **source)).subdir == before
    (tmp_path / "x.txt").write_text("2")
    assert settle(own(labels=str(tmp_path / "x.txt"), **source)).subdir != before


def test_a_source_without_a_list_counts_everything_below_its_root(
    tmp_path: Path, own: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for root in ("a", "b"):
        (tmp_path / root / "deep").mkdir(parents=True)
        (tmp_path / root / "deep" / "x.npz").write_text("1")
    before = settle(own(root=str(tmp_path / "a"))).subdir
    assert settle(own(root=str(tmp_path / "b"))).subdir == before
    (tmp_path / "a" / "deep" / "x.npz").write_text("2")
    assert settle(own(root=str(tmp_path / "a"))).subdir != before
    monkeypatch.setattr(contents, "MAX_FILES", 0)
    assert settle(own(root=str(tmp_path / "b"))).subdir != before, "too many files: where they are is all that is known"
    assert "data.source: has more than 0 files below" in caplog.text


def test_a_noise_file_can_have_no_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels").write_text("label,label_noisy\n")
    before = settle(compose(["noise=csv", "noise.path=labels"])).subdir
    (tmp_path / "labels").write_text("label,label_noisy\n0,1\n")
    assert settle(compose(["noise=csv", "noise.path=labels"])).subdir != before


def test_files_must_be_a_list_of_existing_paths(tmp_path: Path, own: Any) -> None:
    with pytest.raises(ConfigError, match=r"^data\.source\.files: 'labels.csv' is not allowed: a list of paths below"):
        settle(own(root=str(tmp_path), files="labels.csv"))
    config = settle(own(root=str(tmp_path), files=["labels.csv"])).container
    with pytest.raises(DataError, match=r"^data\.source\.files: there is no labels\.csv in '"):
        refuse_changed(config, RunDirectory(tmp_path))


# At start and at resume


def test_a_finished_run_is_not_reused_for_other_images(tmp_path: Path) -> None:
    """A resumed run refuses other images than those of its start, in any directory."""
    root = images(tmp_path / "photos")
    runs = f"runs_dir={tmp_path / 'runs'}"
    train(folder(root, runs))
    blank(root / "train" / "dog" / "2.png")
    (old,) = (tmp_path / "runs").glob("folder/real/ce/*/seed0")
    config = folder(root, runs)
    new = RunDirectory(tmp_path / "runs" / settle(config).subdir)
    assert not new.finished
    assert new.nearly_the_same(settle(config)) == (
        f"the same run on other contents of data.source is {old}; this one begins anew"
    )
    with pytest.raises(ConfigError, match=r"holds another run \(data.source.contents=.*\('train/dog/2.png'\)"):
        train(config, old)


def test_a_queued_run_refuses_changed_images(tmp_path: Path) -> None:
    root = images(tmp_path / "photos")
    container = settle(folder(root)).container
    run = RunDirectory(tmp_path)
    run.identity.write_text(json.dumps({"files": parts(container)}))
    refuse_changed(container, run)
    blank(root / "test" / "cat" / "1.png")
    (root / "train" / "cat" / "new.png").write_bytes((root / "train" / "cat" / "0.png").read_bytes())
    assert changes(container, run.stored_files(), "data.source") == " ('test/cat/1.png', 'train/cat/new.png')"
    with pytest.raises(DataError, match=r"^data\.source: .*photos has changed since this run was configured \('test/"):
        refuse_changed(container, run)


def test_a_change_among_many_files_is_reported_by_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slnlab.config.contents.BY_FILE", 3)
    root = images(tmp_path / "photos")
    named = sorted(parts(container_of(folder(root)))["data.source"])
    assert named == ["test/cat/", "test/dog/", "train/cat/", "train/dog/"]


def test_unpublished_files_are_refused_unless_verify_is_off(tmp_path: Path) -> None:
    (tmp_path / "FashionMNIST" / "raw").mkdir(parents=True)
    (tmp_path / "FashionMNIST" / "raw" / "train-labels-idx1-ubyte").write_text("other")
    asked = ["data=fashion_mnist", f"data.source.root={tmp_path}"]
    with pytest.raises(DataError, match=r"are not the published ones; data\.source\.verify=false reads them all the"):
        refuse_changed(settle(compose(asked)).container, RunDirectory(tmp_path / "none"))
    spec = settle(compose([*asked, "data.source.verify=false"]))
    refuse_changed(spec.container, RunDirectory(tmp_path / "none"))
    assert unverified(spec.container)
    assert spec.subdir == settle(compose(asked)).subdir, "whether they are verified does not change what they are"


# More epochs


def test_a_longer_run_names_the_command_to_continue(tmp_path: Path) -> None:
    """Whatever follows from the length; in another directory and in the same."""
    config = compose(["method=ce", "scheduler=cosine", "trainer.max_epochs=3", f'runs_dir="{tmp_path}/schöne runs"'])
    short = RunDirectory(Path(config.runs_dir) / settle(config).subdir)
    short.path.mkdir(parents=True)
    short.describe(settle(config), [])
    longer = compose(["method=ce", "scheduler=cosine", "trainer.max_epochs=6"])
    longer.runs_dir = config.runs_dir
    new = RunDirectory(Path(config.runs_dir) / settle(longer).subdir)
    assert new.nearly_the_same(settle(longer)) is None, "it is not finished"
    short.result.write_text("{}")
    said = new.nearly_the_same(settle(longer))
    assert said is not None
    assert said.startswith(f"the same with trainer.max_epochs=3 is finished in {short.path}; this run begins anew. ")
    (typed,) = shlex.split(said.rsplit("trainer.max_epochs more: ")[1])
    assert OverridesParser.create().parse_override(typed).value() == str(short.path)
    with pytest.raises(ConfigError, match=r"T_max=3 there, 6 here.* train on from its weights"):
        short.refuse_another_run(settle(longer))
    longer.optimizer.lr = 0.3
    assert new.nearly_the_same(settle(longer)) is None, "it differs in more"


@pytest.mark.parametrize("method", ["co_teaching", "t_revision", "logistic"])
def test_a_longer_run_that_cannot_start_from_the_weights_gets_no_such_advice(method: str, tmp_path: Path) -> None:
    keys = [f"method={method}", "trainer.max_epochs=30"]
    short = RunDirectory(tmp_path / "short")
    short.path.mkdir()
    short.describe(settle(compose(keys)), [])
    longer = settle(compose([*keys, "trainer.max_epochs=60"]))
    with pytest.raises(ConfigError) as refused:
        short.refuse_another_run(longer)
    assert "max_epochs" in str(refused.value)
    assert "init.from" not in str(refused.value)


def test_a_run_refused_after_its_start_counts_as_failed(tmp_path: Path) -> None:
    spec = settle(compose(["method=ce"]))

    def refuse(run: RunDirectory, describe: bool) -> None:
        with run.locked():
            if describe:
                run.describe(spec, [])
            raise ConfigError("it cannot work")

    for describe, state in ((False, "missing"), (True, "failed")):
        run = RunDirectory(tmp_path / f"{describe}" / "run")
        with pytest.raises(ConfigError):
            refuse(run, describe)
        assert [found.state for found in run_statuses(tmp_path / f"{describe}")] == ([state] if describe else [])


# Sweeps


def test_sweep_runs_sharing_a_directory_are_refused(tmp_path: Path) -> None:
    one, two, three = (
        settle(compose(typed)) for typed in (["seed=0"], ["seed=1"], ["seed=0", "trainer.progress=false"])
    )
    assert list(shared_directories([("a", tmp_path / "a", one), ("b", tmp_path / "b", two)])) == []
    (line,) = shared_directories([("a", tmp_path, one), ("c", tmp_path, three)])
    assert line.startswith("'c' is the same run as 'a' and is done once")
    with pytest.raises(ConfigError, match=f"the runs 'a' and 'b' would share the directory {tmp_path}"):
        list(shared_directories([("a", tmp_path, one), ("b", tmp_path, two)]))


# The cache


def test_unchanged_files_are_read_once_across_processes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = images(tmp_path / "photos")
    monkeypatch.setattr(file_hashes, "RECENT_NS", 0)
    before = settle(folder(root)).subdir
    file_hashes._hashes.clear()
    file_hashes._loaded.clear()
    read: list[str] = []
    md5 = file_hashes._md5
    monkeypatch.setattr(file_hashes, "_md5", lambda path: (read.append(path), md5(path))[1])
    assert settle(folder(root)).subdir == before
    assert read == []
    blank(root / "train" / "cat" / "0.png")
    assert settle(folder(root)).subdir != before
    assert {os.path.basename(path) for path in read} == {"0.png"}


@pytest.mark.parametrize("spoiled", ["{", "[1]", '{"train/cat/0.png": [1]}', "no folder"])
def test_an_unusable_cache_changes_nothing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, spoiled: str
) -> None:
    root = images(tmp_path / "photos")
    monkeypatch.setattr(file_hashes, "RECENT_NS", 10**15)  # the images stay too new for the cache on a slow machine too
    before = settle(folder(root)).subdir
    if spoiled == "no folder":
        cache.parent.mkdir(parents=True)
        cache.touch()
    else:
        cache.mkdir(parents=True)
        slnlab.storage.cache._files(file_hashes.KIND, os.path.realpath(root))[0].write_text(spoiled)
    file_hashes._hashes.clear()
    file_hashes._loaded.clear()
    assert settle(folder(root)).subdir == before


def test_a_freshly_written_file_is_read_again(tmp_path: Path, cache: Path) -> None:
    """Such a file may change again with equal time and size."""
    (tmp_path / "x.csv").write_text("1")
    file_hashes.file_hashes(tmp_path, ["x.csv"], fresh=True)
    assert not file_hashes._hashes
    os.utime(tmp_path / "x.csv", (1, 1))
    assert not file_hashes._hashes
