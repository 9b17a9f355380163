"""`diagnose --html`: the page that reviews training labels, in a browser without a network."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import requests_of
from own_photos import EARLIER, photos, trained

import slnlab
from slnlab.config import compose
from slnlab.diagnose import main
from slnlab.errors import DataError
from slnlab.inference import images
from slnlab.inference.decisions import decisions_of
from slnlab.inference.diagnosis import Diagnosis, diagnose
from slnlab.page import review_contents as module
from slnlab.page.review_contents import review_contents
from slnlab.page.writing import write_review
from slnlab.train import train

STRANGE = 'one/<!--<script>, "a".png'
"""The name of an image that no page and no CSV file may misread."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    """The diagnosis of 68 images, which fill two pages."""
    folder = photos(tmp_path_factory.mktemp("photos"), each=35)
    (folder / "one" / "0.png").rename(folder / STRANGE)
    return diagnose(slnlab.load(trained(folder, tmp_path_factory.mktemp("runs"))), images=False)


@pytest.fixture
def opened(found: Diagnosis, browser: Any, tmp_path: Path) -> Callable[..., Any]:
    """Opens the page in a browser that has stored nothing."""

    def start(decisions: dict[str, int | None] | None = None) -> Any:
        write_review(tmp_path / "review.html", found, decisions)
        browser.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path), "eventsEnabled": False}
        )
        browser.get((tmp_path / "review.html").as_uri())
        browser.execute_script("window.onbeforeunload = null; localStorage.clear()")
        browser.get((tmp_path / "review.html").as_uri())
        browser.get_log("browser")
        return browser

    return start


def press(driver: Any, *keys: str) -> None:
    for key in keys:
        driver.switch_to.active_element.send_keys(key)


def texts(driver: Any, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent)"
    found: list[str] = driver.execute_script(script, selector)
    return found


def text(driver: Any, identity: str) -> str:
    (found,) = texts(driver, f"#{identity}")
    return found


def choose(driver: Any, identity: str, option: str) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    driver.execute_script("document.dispatchEvent(new Event('pointerdown'))")  # which Selenium's choice lacks
    Select(driver.find_element(By.ID, identity)).select_by_visible_text(option)
    driver.execute_script("document.activeElement.blur()")  # letters would choose in the list


def click(driver: Any, identity: str) -> None:
    driver.execute_script("document.getElementById(arguments[0]).click()", identity)


def exported(driver: Any, folder: Path) -> list[dict[str, str]]:
    from selenium.webdriver.support.ui import WebDriverWait

    (folder / "decisions.csv").unlink(missing_ok=True)
    click(driver, "export")
    WebDriverWait(driver, 10).until(lambda _: (folder / "decisions.csv").exists())
    with (folder / "decisions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_keys_decide_and_undo(found: Diagnosis, opened: Callable[..., Any], tmp_path: Path) -> None:
    driver = opened()
    names, given, suggested = (
        of[found.order] for of in (found.columns["path"], found.columns["given"], found.suggested)
    )
    classes = found.run.classes
    assert texts(driver, ".card > span:nth-child(2)") == names[:60].tolist(), "the likeliest wrong label first"
    assert text(driver, "pages") == "page 1 of 2"
    press(driver, "k", "r", "d")
    assert texts(driver, ".mark")[:4] == ["✓ keep", f"→ {classes[suggested[1]]}", "✕ drop", ""]
    assert text(driver, "name") == names[3], "a decision moves on"
    press(driver, "u", "u")
    assert texts(driver, ".mark")[:3] == ["✓ keep", "", ""]
    assert text(driver, "name") == names[1], "undo goes back"
    press(driver, "r", "\ue014", "k")  # →
    assert text(driver, "count") == "68 of 68 samples, 3 decided"
    press(driver, "\ue012", "\ue012")  # ←
    assert text(driver, "name") == names[2]
    rows = exported(driver, tmp_path)
    assert [(row["path"], row["decision"], row["label"], row["given_label"]) for row in rows] == [
        (names[0], "keep", classes[given[0]], classes[given[0]]),
        (names[1], "relabel", classes[suggested[1]], classes[given[1]]),
        (names[3], "keep", classes[given[3]], classes[given[3]]),
    ]
    assert decisions_of(found.run, tmp_path / "decisions.csv") == {
        names[0]: given[0],
        names[1]: suggested[1],
        names[3]: given[3],
    }
    assert driver.get_log("browser") == []
    assert {address.split(":")[0] for address in requests_of(driver)} <= {"file", "data", "blob"}


def test_pages_filters_and_whole_pages(found: Diagnosis, opened: Callable[..., Any], tmp_path: Path) -> None:
    driver = opened()
    press(driver, "k", "R")
    assert text(driver, "count") == "68 of 68 samples, 60 decided"
    assert texts(driver, ".mark")[0] == "✓ keep", "a decision on the page leaves earlier ones as they are"
    click(driver, "next")
    assert text(driver, "pages") == "page 2 of 2"
    assert len(texts(driver, ".card")) == 8
    press(driver, "D")
    choose(driver, "show", "dropped")
    assert texts(driver, ".mark") == ["✕ drop"] * 8
    choose(driver, "show", "undecided")
    assert texts(driver, "#cards") == ["No sample passes these filters."]
    click(driver, "undo")
    assert len(texts(driver, ".card")) == 8, "one undo takes back a whole page"
    press(driver, "k")
    assert text(driver, "count").startswith("8 of 68 samples, 61 decided"), "the card stays until the page turns"
    press(driver, "K")
    exported(driver, tmp_path)
    decided = decisions_of(found.run, tmp_path / "decisions.csv")
    assert set(decided) == set(found.columns["path"]), "also of the name with quotes and a comma"

    driver.execute_script("localStorage.clear()")
    driver.refresh()
    choose(driver, "show", "undecided")
    press(driver, "R")
    click(driver, "next")
    assert (text(driver, "pages"), len(texts(driver, ".card"))) == ("page 1 of 1", 8), "decided samples have left"

    choose(driver, "show", "all samples")
    choose(driver, "given", "one")
    names, given = found.columns["path"][found.order], found.columns["given"][found.order]
    expected = names[given == found.run.classes.index("one")].tolist()
    assert texts(driver, ".card > span:nth-child(2)") == expected[:60]
    choose(driver, "suggested", "one")
    assert texts(driver, ".card") == []
    driver.execute_script("document.querySelector('#matrix td:not(.right):not(:first-child)').click()")
    assert {line.split(" → ")[1] for line in texts(driver, ".card > span:nth-child(3)")} == {f"{found.run.classes[0]}?"}
    assert driver.get_log("browser") == []


def test_another_class_is_chosen_and_counted(found: Diagnosis, opened: Callable[..., Any], tmp_path: Path) -> None:
    """The select of the current sample relabels; its own label means keep. Counts per class follow."""
    driver = opened()
    row = found.order[0]
    given = int(found.columns["given"][row])
    before = int((found.columns["given"] == given).sum())
    press(driver, "r")
    assert text(driver, f"after-{given}") == f"{before - 1} (−1)"
    press(driver, "\ue012")
    choose(driver, "label", found.run.classes[given])
    assert texts(driver, ".mark")[0] == "✓ keep"
    assert text(driver, f"after-{given}") == str(before)


def test_typing_in_the_list_of_classes_decides_nothing_before_enter(
    found: Diagnosis, opened: Callable[..., Any]
) -> None:
    """Browsers change a focused list at every letter."""
    from selenium.webdriver.common.by import By

    driver = opened()
    row = found.order[0]
    other = next(name for c, name in enumerate(found.run.classes) if c != int(found.suggested[row]))
    driver.find_element(By.ID, "label").send_keys(other)
    assert set(texts(driver, ".mark")) == {""}
    driver.switch_to.active_element.send_keys("\ue007")
    assert sum(mark != "" for mark in texts(driver, ".mark")) == 1
    kept = int(found.columns["given"][row]) == found.run.classes.index(other)
    assert texts(driver, ".mark")[0] == ("✓ keep" if kept else f"→ {other}")
    assert driver.get_log("browser") == []


def test_a_new_file_of_decisions_wins_over_the_browsers(found: Diagnosis, opened: Callable[..., Any]) -> None:
    names = found.columns["path"][found.order].tolist()
    driver = opened({names[0]: None})
    press(driver, "k")
    assert texts(driver, ".mark")[0] == "✓ keep"
    write_review(Path(driver.current_url.removeprefix("file://")), found, {names[0]: None, names[1]: None})
    driver.refresh()
    assert texts(driver, ".mark")[:2] == ["✕ drop", "✕ drop"]


def test_decisions_outlive_the_page(found: Diagnosis, opened: Callable[..., Any], tmp_path: Path) -> None:
    names = found.columns["path"][found.order].tolist()
    driver = opened({names[2]: None, "one/4.png": 0})
    assert texts(driver, ".mark")[:3] == ["", "", "✕ drop"], "the decisions of --reviewed"
    press(driver, "k")
    driver.refresh()
    assert texts(driver, ".mark")[:3] == ["✓ keep", "", "✕ drop"]
    assert {row["path"]: row["decision"] for row in exported(driver, tmp_path)} == {
        names[0]: "keep",
        names[2]: "drop",
        "one/4.png": "relabel",  # left out before this run, so it has no card
    }


def test_a_browser_without_storage_says_so(opened: Callable[..., Any], tmp_path: Path) -> None:
    driver = opened()
    broken = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('refused') }})"
    script = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": broken})
    try:
        driver.refresh()
        assert any("export them before you close" in note for note in texts(driver, "#notes li"))
        press(driver, "d")
        assert len(exported(driver, tmp_path)) == 1
        assert driver.get_log("browser") == []
    finally:
        driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_the_page_is_accessible(opened: Callable[..., Any]) -> None:
    driver = opened()
    press(driver, "k")
    script = (
        "const each = document.activeElement; return [each.role, each.ariaSelected, each.tabIndex, each.dataset.rank]"
    )
    assert driver.execute_script(script) == ["option", "true", 0, "1"], "the focus is on the current card"
    assert driver.execute_script("return document.querySelectorAll('.card[tabindex=\"0\"]').length") == 1
    assert text(driver, "status").endswith("✓ keep"), "a live region says what happened"
    controls = "return [...document.querySelectorAll('button, select, [role=listbox]')]"
    nameless = "each => !(each.labels?.length || each.ariaLabel || each.textContent.trim())"
    assert driver.execute_script(f"{controls}.filter({nameless})") == []


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    from matplotlib.colors import to_rgb

    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_texts_have_the_contrast_of_wcag_aa(scheme: int) -> None:
    css = files("slnlab.page").joinpath("review.css").read_text("utf-8")
    colours = dict(re.findall(r"--(\w+): (#\w+);", css.split(":root {")[1 + scheme].split("}")[0]))
    for name in ("text", "soft", "keep", "relabel", "drop"):
        for ground in ("page", "card"):
            darker, lighter = sorted(luminance(colours[each]) for each in (name, ground))
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (name, ground)


def test_the_command_writes_the_page(found: Diagnosis, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "decisions.csv"
    file.write_text("path,decision,label\none/1.png,drop,\n")
    main([str(found.run.directory), "--html", "--out", str(tmp_path), "--reviewed", str(file)])
    assert "review.html written" in capsys.readouterr().out
    page = (tmp_path / "review.html").read_text("utf-8")
    assert "<!--" not in page, "a file name is no markup"
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    contents = json.loads(re.search(r'<script id="contents"[^>]*>(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    assert contents["decisions"] == {"one/1.png": None}
    assert set(contents["corrections"]) == set(EARLIER) - {"zero/6.png"}
    assert STRANGE in [sample[0] for sample in contents["samples"]]
    assert len(contents["pictures"]) == 68
    main([str(found.run.directory), "--html", "--out", str(tmp_path), "--no-images"])
    assert '"pictures":{}' in (tmp_path / "review.html").read_text("utf-8")


def test_a_large_page_says_what_it_leaves_out(found: Diagnosis, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = review_contents(found, {})
    monkeypatch.setattr(module, "MOST_SAMPLES", 30)
    monkeypatch.setattr(module, "FOR_STYLE_AND_SCRIPT", 0)
    few = review_contents(found, {})
    assert few["samples"] == whole["samples"][:30]
    assert "The page shows the 30 most suspicious of 68 samples; issues.csv lists all." in few["notes"]
    without = len(json.dumps(few | {"pictures": {}}))
    monkeypatch.setattr(module, "LARGEST", without + 4000)
    small = review_contents(found, {})
    assert 0 < len(small["pictures"]) < 30
    assert len(json.dumps(small)) <= without + 4000 + 200, "the note on it is longer"
    assert f"{len(small['pictures'])} samples have a picture" in small["notes"][-1]
    monkeypatch.setattr(module, "FOR_SAMPLES", 1000)
    assert 1 <= len(review_contents(found, {})["samples"]) < 30


def test_another_ranking_keeps_the_decisions_of_a_large_page(found: Diagnosis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SAMPLES", 30)
    digest = review_contents(found, {}, with_pictures=False)["digest"]
    ranked_otherwise = found._replace(order=found.order[::-1])
    assert review_contents(ranked_otherwise, {}, with_pictures=False)["digest"] == digest
    given = found.columns["given"].copy()
    given[found.order[-1]] = 1 - given[found.order[-1]]  # of a sample that is not shown
    relabelled = found._replace(columns={**found.columns, "given": given})
    assert review_contents(relabelled, {}, with_pictures=False)["digest"] != digest


def test_pictures_are_for_suspected_labels_of_each_class_in_turn(found: Diagnosis) -> None:
    """Six ranks with the given classes 0, 0, 0, 1, 0, 1, of which the first four are suspected."""
    wrong = np.array([0.9, 0.9, 0.9, 0.8, 0.1, 0.1])
    made = found._replace(
        order=np.arange(6),
        columns={"given": np.array([0, 0, 0, 1, 0, 1])},
        estimate=found.estimate._replace(wrong=wrong),
    )
    assert module._by_turns(made, 6).tolist() == [0, 3, 1, 2, 5, 4]


def test_a_picture_that_cannot_be_read_leaves_the_others(
    found: Diagnosis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = str(found.columns["path"][found.order[2]])
    real = images.read_rgb

    def read(path: Path, **options: Any) -> Any:
        if str(path).endswith(damaged):
            raise DataError(f"{path}: is no readable image")
        return real(path, **options)

    monkeypatch.setattr(images, "read_rgb", read)
    notes = write_review(tmp_path / "review.html", found)
    (note,) = notes
    assert re.fullmatch(rf"Without 1 picture\(s\), the first one because of .*{damaged}: is no readable image", note)
    shown = module.review_contents(found, {})
    assert len(shown["pictures"]) == len(found.order) - 1


def test_names_that_are_not_utf8_are_exported_as_bytes(opened: Callable[..., Any]) -> None:
    script = "return Promise.all([new Blob(bytes(arguments[0])).arrayBuffer()]).then(([b]) => [...new Uint8Array(b)])"
    name = "é\udcff.png\udc80 \U0001f98a"
    found = opened().execute_script(script.replace("arguments[0]", json.dumps(name)))
    assert bytes(found) == name.encode("utf-8", "surrogateescape")


def test_vectors_have_a_row_number(tmp_path: Path, browser: Any) -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(40, 3)).astype(np.float32)
    np.savez(tmp_path / "own.npz", train_features=features, train_labels=(features[:, 0] > 0).astype(int))
    choices = ["data=features", f"data.source.root={tmp_path / 'own.npz'}", "method=ce", "trainer.max_epochs=2"]
    train(compose([*choices, "trainer.accelerator=cpu", "trainer.progress=false"]), tmp_path / "run")
    found = diagnose(slnlab.load(tmp_path / "run"), images=False)
    write_review(tmp_path / "review.html", found)
    browser.get((tmp_path / "review.html").as_uri())
    assert "vectors" in texts(browser, "#notes li")[-1]
    row = found.columns["index"][found.order[0]]
    assert texts(browser, ".card .frame")[0] == text(browser, "name") == f"row {row}"
    press(browser, "d")
    assert "No sample of this data set can be left out" in text(browser, "status")
    press(browser, "r")
    rows = exported_at(browser, tmp_path)
    assert rows[0]["index"] == str(row)
    assert decisions_of(found.run, tmp_path / "decisions.csv") == {str(row): int(found.suggested[found.order[0]])}


def exported_at(driver: Any, folder: Path) -> list[dict[str, str]]:
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    return exported(driver, folder)
