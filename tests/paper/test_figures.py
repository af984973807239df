"""The figures: their panels, their pictures' bytes, and everything rendered by one command."""

import json
import re
import shutil
import sys

import numpy as np
import pytest

from experiment.artifacts import RunFolder
from paper import draw, figures, render
from paper.separation import separation
from tests.conftest import user_error
from tests.small_devkit import TEST, TRAINVAL


def test_panels_hold_the_images_of_one_class_in_the_order_shown(finished):
    run = RunFolder(finished / "torch")
    assert run.json("index", "classes") == ["cold", "rare", "warm"]
    found = figures.panels(run, [2, 0, 1])
    assert [len(found["figure1"]), len(found["figure3"])] == [2, 3]
    # Images 5 and 25 have two classes, image 3 only a difficult object.
    trainval = [i for i in range(TRAINVAL) if i not in (3, 5)]
    assert found["figure1"][0].classes.tolist() == [int(i % 3 != 0) for i in trainval]
    assert np.array_equal(found["figure1"][1].features, run.array("features", "lr_trainval")[trainval])
    rows = [i for i in range(TEST) if i != 1]
    transferred = found["figure3"][2]
    assert np.array_equal(transferred.features, run.array("transfer_features", "test")[rows])
    assert transferred.numbers == separation(transferred.features, transferred.classes)
    assert [panel.numbers.dimension for panel in found["figure3"]] == [512, 512, 4]


def test_the_same_features_give_the_same_bytes_and_the_numbers_stand_in_the_picture(finished):
    panels = figures.panels(RunFolder(finished / "torch"), [0, 1, 2])["figure3"]
    picture = draw.draw(panels, ["cold", "rare", "warm"])
    assert draw.draw(panels, ["cold", "rare", "warm"]) == picture
    text = picture.decode()
    assert "<dc:date>" not in text and "LR transferred, test, 4-D" in text
    for panel in panels:
        assert draw.caption(panel.numbers) in text
    assert {"cold", "warm"} <= set(re.findall(r">(\w+)</text>", text)) and ">rare<" not in text


def test_the_map_keeps_neighbours_together():
    random = np.random.default_rng(0)
    classes = np.repeat([0, 1, 2], 15)
    features = random.normal(size=(45, 30)) + 20 * np.eye(3, 30)[classes]
    points = draw.embed(features)
    assert points.shape == (45, 2) and separation(points, classes).knn == 1
    assert draw.embed(features[:5]).shape == (5, 2)  # the fewest that are drawn


def test_forty_nine_classes_look_different():
    assert len({draw.look(position) for position in range(49)}) == 49


def test_without_matplotlib_the_remedy_is_named(finished, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with user_error("matplotlib", "make setup"):
        draw.draw(figures.panels(RunFolder(finished / "torch"), [0, 1, 2])["figure1"], ["cold", "rare", "warm"])


def test_too_few_images_are_refused(finished, monkeypatch):
    monkeypatch.setattr(figures, "LEAST_IMAGES", TRAINVAL)
    with user_error(finished / "torch", "too few"):
        figures.panels(RunFolder(finished / "torch"), [0, 1, 2])


def test_one_command_writes_everything(finished, tmp_path, monkeypatch):
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(finished, run)
    shutil.copytree(run / "torch", run / "caffe")  # the same numbers do for the other side
    monkeypatch.setattr(figures, "draw", lambda panels, names: b"<svg/>")
    published = render.read_published()
    monkeypatch.setattr(render, "read_published", lambda: type(published)(**{**vars(published), "n1": [3], "n2": [2]}))
    monkeypatch.setattr("sys.argv", ["render", f"small={run}", "--out", str(out)])
    assert render.main() == 0
    assert {path.name for path in (out / "small").iterdir()} == {
        "table1.md", "table1.csv", "table2.md", "table2.csv", "table2.json",
        "figure1.svg", "figure3.svg", "figures.md", "figures.csv", "figures.json",
    }  # fmt: skip
    for path in (out / "small").iterdir():
        assert str(tmp_path) not in path.read_text(encoding="utf-8"), path.name
    numbers = json.loads((out / "small/figures.json").read_text())["figures"]
    assert [panel["dimension"] for panel in numbers["figure3"]] == [512, 512, 4]
    page = (out / "small/figures.md").read_text()
    assert "![figure3](figure3.svg)" in page and "no other are shown" in page


@pytest.mark.parametrize("words", [["small"], ["a/b=run"], ["small="], ["a=x", "a=y"]])
def test_runs_without_a_name_of_their_own_are_refused(monkeypatch, words):
    monkeypatch.setattr("sys.argv", ["render", *words])
    with user_error(words[-1], "NAME=RUN"):
        render.main()
