"""`report --html`: the page in a browser, without a network."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest
from browsing import requests_of

from slnlab.errors import SlnlabError
from slnlab.report import main, report

FAILURE = "RuntimeError: <script>alert('no')</script> & more"


def write_runs(make_run, tmp_path):
    for noise in ("sym", "asym"):
        for seed in (0, 1):
            make_run(f"runs/{noise}ce{seed}", [0.9, 0.5 + seed / 10], noise=noise, seed=seed)
            for sigma in (0.5, 1):
                make_run(f"runs/{noise}{sigma}{seed}", [0.4, 0.8 + seed / 10 - sigma / 10], noise=noise, seed=seed,
                         method="sln", sigma=sigma)  # fmt: skip
    for metrics in (tmp_path / "runs").glob("sym*/metrics.csv"):
        head, first, second = metrics.read_text().split()
        metrics.write_text(f"{head},train/memorised,train/recovered\n{first},0.25,0.5\n{second},0.75,0.125\n")
    for samples in (tmp_path / "runs/symce0", tmp_path / "runs/symce1"):
        # 100 samples: 60 correct labels with a small loss, then 40 wrong ones, of which the first 20 are memorised.
        given, true = np.zeros(100, int), np.array([0] * 60 + [1] * 40)
        np.savez(
            samples / "samples.npz",
            index=np.arange(100),
            given=given,
            true=true,
            wrong=given != true,
            network_loss=np.arange(100.0),
            network_margin=-np.arange(100.0),
            network_prediction=np.array([0] * 80 + [1] * 20),
        )
    failed = make_run("runs/failed", seed=5)
    (failed / "result.json").unlink()
    (failed / "config.yaml").write_text("trainer: {max_epochs: 4}\n")
    (failed / "metrics.csv").write_text("epoch,seconds\n1,2.5\n")
    (failed / "failure.txt").write_text(FAILURE)
    return tmp_path / "runs"


def test_the_page_sorts_filters_and_hovers(make_run, tmp_path, browser):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select, WebDriverWait

    report([write_runs(make_run, tmp_path)], page=tmp_path / "report.html")
    browser.get((tmp_path / "report.html").as_uri())

    def column(name: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent)"
        place = browser.execute_script(script, "#configurations th").index(name) + 1
        found: list[str] = browser.execute_script(script, f"#configurations tbody td:nth-child({place})")
        return found

    def click(name: str) -> None:
        browser.find_element(By.XPATH, f"//th/button[.='{name}']").click()

    def names(chart: str) -> list[str]:
        """The names of the lines, without their bands."""
        script = f"return document.getElementById('{chart}').data.filter(t => t.name).map(t => t.name)"
        return browser.execute_script(script)

    assert column("method") == ["CE", "SLN", "SLN", "SLN-MO", "SLN-MO"] * 2
    assert column("last")[0] == "55.00 ± 7.07"  # asym
    click("last")  # numbers: the largest first
    assert column("last") == sorted(column("last"), reverse=True)
    assert (column("method")[0], column("setting")[0]) == ("SLN-MO", "sigma=0.5")
    click("last")
    assert column("last") == sorted(column("last"))
    assert column("method")[0] == "CE"
    click("noise")
    assert column("noise") == ["asym 0.4"] * 5 + ["sym 0.4"] * 5

    # Curves belong to the panel chosen and to the rows that the filter leaves.
    assert len(names("curves")) == 5
    assert not browser.find_element(By.ID, "memorisation-section").is_displayed()  # not measured
    browser.find_element(By.ID, "filter").send_keys(" sym sln-mo SIGMA=1")
    assert (column("noise"), column("method")) == (["sym 0.4"], ["SLN-MO"])  # asym has no word that begins with sym
    assert browser.find_element(By.ID, "count").text == "1 of 10 rows"
    assert names("curves") == []  # of asym
    Select(browser.find_element(By.ID, "panel")).select_by_visible_text("digits sym 0.4")
    assert names("curves") == ["SLN-MO sigma=1"]
    assert names("memorisation") == []  # the network's row is not shown
    browser.find_element(By.ID, "filter").clear()
    browser.find_element(By.ID, "filter").send_keys("sln")
    assert names("memorisation")[::2] == ["SLN sigma=0.5: memorised", "SLN sigma=0.5: recovered"]
    assert len(names("dissection")) == 4
    assert names("sigma") == ["SLN", "SLN-MO"]
    assert browser.execute_script("return document.getElementById('sigma').data[0].y") == pytest.approx([80, 75])
    Select(browser.find_element(By.ID, "measure")).select_by_visible_text("training loss on wrong labels (nats)")
    assert names("curves") == ["SLN sigma=0.5", "SLN sigma=1"]

    # The pointer over an epoch shows mean, spread and number of runs.
    Select(browser.find_element(By.ID, "measure")).select_by_visible_text("test accuracy (%)")
    area = browser.find_element(By.CSS_SELECTOR, "#curves .nsewdrag")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", area)
    ActionChains(browser).move_to_element_with_offset(area, area.size["width"] // 2 - 5, 0).perform()
    hovers = WebDriverWait(browser, 5).until(
        lambda driver: driver.find_element(By.CSS_SELECTOR, "#curves .hoverlayer").text
    )
    assert "SLN sigma=0.5 : 80.00 ± 7.07 (n = 2)" in hovers

    assert len(browser.find_elements(By.CSS_SELECTOR, "#slowest tbody tr")) == 10
    (failed,) = (row.text for row in browser.find_elements(By.CSS_SELECTOR, "#unfinished tbody tr"))
    assert failed == f"{tmp_path / 'runs/failed'} failed 1/4 {FAILURE}"

    buttons = browser.execute_script("return [...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
    assert "Zoom" in buttons
    assert not [title for title in buttons if re.search("share|cloud", title, re.IGNORECASE)]  # which would upload
    assert browser.get_log("browser") == []
    assert (tmp_path / "report.html").as_uri() in (addresses := requests_of(browser))
    assert {address.split(":")[0] for address in addresses} <= {"file", "data", "blob"}


def test_numbers_sort_by_their_value_and_every_line_differs(make_run, tmp_path, browser):
    for seed in range(4):
        make_run(f"runs/ce{seed}", [0.5 + seed / 1000], seed=seed)
        for number, sigma in enumerate((0.5, 0.05, 1e-05, 10, *range(1, 6))):
            last = [0.8, 0.55, 0.5][min(number, 2)] + (seed % 2) / (20 if number else 500)
            run = make_run(f"runs/{number}{seed}", [last], method="sln", sigma=sigma, seed=seed)
            header, line = (run / "metrics.csv").read_text().split()
            (run / "metrics.csv").write_text(f"{header},train/memorised,train/recovered\n{line},0.25,0.5\n")
    report([tmp_path / "runs"], page=tmp_path / "report.html", reference="ce")
    browser.get((tmp_path / "report.html").as_uri())

    def after_click(name: str) -> list[str]:
        script = """
            const heads = [...document.querySelectorAll("#configurations th")].map(each => each.textContent);
            const place = heads.indexOf(arguments[0]) + 1;
            document.querySelector(`#configurations th:nth-child(${place}) button`).click();
            const cells = document.querySelectorAll(`#configurations tbody td:nth-child(${place})`);
            return [...cells].map(each => each.textContent)"""
        found: list[str] = browser.execute_script(script, name)
        return found

    settings = [f"sigma={sigma}" for sigma in ("1e-05", "0.05", "0.5", *range(1, 6), "10")]
    assert after_click("setting") == ["", *(setting for setting in settings for _ in range(2))]
    falling, rising = after_click("p"), after_click("p")
    assert "<0.001" in rising
    numbers = [float(cell.replace("<", "")) for cell in rising if cell != "–"]
    assert numbers == sorted(numbers)
    assert [float(cell.replace("<", "")) for cell in falling if cell != "–"] == numbers[::-1]
    looks = browser.execute_script(
        "return document.getElementById('memorisation').data.filter(t => t.name)"
        ".map(t => [t.line.color, t.line.dash, t.mode, t.mode === 'lines' ? '' : t.marker.symbol].join())"
    )
    assert len(set(looks)) == len(looks) == 2 * 9
    height = "return getComputedStyle(document.getElementById('configurations')).maxHeight"
    assert browser.execute_script(height) != "none"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert browser.execute_script(height) == "none", "paper does not scroll"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert browser.get_log("browser") == []


@pytest.mark.parametrize(("secondary", "title"), [(False, "SLN-MO-LC"), (True, "SLN-MO-LC (network)")])
def test_training_losses_belong_to_the_networks_row_or_the_first_shown(make_run, tmp_path, secondary, title):
    make_run("runs/0", method="sln_mo_lc")
    report([tmp_path / "runs"], page=tmp_path / "report.html", secondary=secondary)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    contents = json.loads(re.search(r'<script id="contents"[^>]*>(.*?)</script>', text, re.S)[1])
    ((number, curve),) = contents["curves"]["training loss on correct labels (nats)"].items()
    assert contents["configurations"][int(number)]["title"] == title
    assert curve["mean"] == [1, 0.5]


def test_the_command_writes_the_page(make_run, tmp_path, monkeypatch, capsys):
    runs = write_runs(make_run, tmp_path)
    monkeypatch.chdir(tmp_path)
    main([str(runs), "--html", "--where", "noise=sym"])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text  # a run's text is no markup
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=\"(?!data:)", text.split('id="contents"')[1])
    contents = json.loads(re.search(r'<script id="contents"[^>]*>(.*?)</script>', text, re.S)[1])
    assert len(contents["configurations"]) == 5
    assert contents["unfinished"][0][3] == FAILURE
    (shares,) = contents["dissection"].values()  # of CE, by intervals of two samples
    assert shares == [[100] * 30 + [0] * 20, [0] * 50, [0] * 40 + [100] * 10, [0] * 30 + [100] * 10 + [0] * 10]
    curve = contents["curves"]["test accuracy (%)"]["0"]
    assert (curve["x"], curve["mean"]) == ([1, 2], [90, 55])
    assert curve["std"] == pytest.approx([0, 50**0.5], rel=1e-4)


def test_without_plotly_the_extra_is_named(make_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    make_run("runs/0")
    with pytest.raises(SlnlabError, match=r"--html needs the extra: pip install 'slnlab\[html\]'"):
        report([tmp_path / "runs"], page=tmp_path / "report.html")
