"""Table 1 from runs of a few numbers: order, names, differences, and what is no comparison at all."""

import csv
import json

import numpy as np
import pytest

from experiment.artifacts import RunFolder, sha256_json
from experiment.spec import read_profile
from experiment.stage_writer import StageWriter
from experiment.stages import ROWS
from paper import table1
from paper.published import read_published
from tests.conftest import user_error

PUBLISHED = read_published()
VOC = list(PUBLISHED.names)
N = {"trainval": 5011, "test": 4952}


def write_side(path, classes, ap, profile="paper", digest="a" * 64, images=N, seed=0):
    """A side with just the stages index and metrics; ap : row to the AP of each class, fractions."""
    path.mkdir(parents=True)
    spec = {"profile": profile, "values": read_profile(profile)[0], "sha256": digest}
    (path / "spec.json").write_text(json.dumps(spec))
    run, random = RunFolder(path), np.random.default_rng(seed)
    index = StageWriter(run, "index")
    index.json("classes", classes)
    for split, n in images.items():
        index.json(f"ids_{split}", [str(i) for i in range(n)])
        index.array(f"labels_{split}", random.integers(-1, 2, (n, len(classes))).astype(np.int8))
    index.finish({})
    metrics = StageWriter(run, "metrics")
    rows = {
        row: {
            "ap_11point": list(values),
            "ap_area": list(values),
            "map_11point": float(np.mean(values)),
            "map_area": float(np.mean(values)) / 2,
        }
        for row, values in ap.items()
    }
    metrics.json("metrics", rows)
    metrics.finish({})


def printed(shift=0.0):
    """The paper's own APs as a run would hold them, a shift (in percent) on top."""
    return {row: [(value + shift) / 100 for value in PUBLISHED.ap[row]] for row in ROWS}


def cells_of(page):
    """The table's rows as lists of words."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]


@pytest.fixture
def voc(tmp_path):
    """A pair of VOC2007's classes, stored in another order than the paper's; the port 1 % above the paper."""
    order = np.argsort([name[::-1] for name in VOC])
    for side, shift in (("caffe", 0.0), ("torch", 1.0)):
        ap = {row: [values[i] for i in order] for row, values in printed(shift).items()}
        write_side(tmp_path / side, [VOC[i] for i in order], ap)
    return tmp_path


def test_voc_s_classes_stand_in_the_paper_s_order_under_its_names_beside_its_numbers(voc):
    page = table1.write(voc, voc / "out", "voc")
    head, _, *rows = cells_of(page)
    assert head[2:] == [*PUBLISHED.names.values(), "mAP", "mAP area"]
    lines = {(ROWS[i // 6], row[1]): row[2:] for i, row in enumerate(rows)}
    assert len(rows) == 18
    for row in ROWS:
        paper = [f"{value:.1f}" for value in PUBLISHED.ap[row]]
        assert lines[row, "paper"] == [*paper, f"{PUBLISHED.map[row]:.1f}", "-"]
        assert lines[row, "Caffe"][:20] == paper
        assert set(lines[row, "port - paper"][:20]) == set(lines[row, "port - Caffe"][:21]) == {"+1.0"}
        assert all(abs(float(cell)) == 0 for cell in lines[row, "Caffe - paper"][:20])
    assert "stand-in" not in page and "Not the paper's specification" not in page


def test_the_csv_holds_the_same_unrounded(voc):
    table1.write(voc, voc / "out", "voc")
    lines = list(csv.DictReader((voc / "out/table1.csv").open()))
    assert len(lines) == 3 * 21
    tv = next(line for line in lines if (line["row"], line["class"]) == ("ours", "tvmonitor"))
    assert tv["shown"] == "tv" and float(tv["published"]) == 92.5 and float(tv["torch_minus_published"]) == 1
    mean = next(line for line in lines if (line["row"], line["class"]) == ("baseline_hr", "mAP"))
    # The mean of what is printed, 89.095, against the printed mean, 89.1.
    assert float(mean["caffe_minus_published"]) == pytest.approx(-0.005, abs=1e-6)


def test_other_classes_have_no_published_numbers_and_say_that_they_are_a_stand_in(tmp_path):
    ap = {row: [0.5, 0.25] for row in ROWS}
    for side in ("caffe", "torch"):
        write_side(tmp_path / side, ["train", "waffle"], ap, "embedded")
    page = table1.write(tmp_path, tmp_path / "out", "small")
    head, _, *rows = cells_of(page)
    assert head[2:] == ["train", "waffle", "mAP", "mAP area"]
    assert [row[1] for row in rows] == ["Caffe", "port", "port - Caffe"] * 3
    assert rows[0][2:] == ["50.0", "25.0", "37.5", "18.8"] and rows[2][2:5] == ["0", "0", "0"]
    assert "A stand-in" in page and "say nothing of the paper's" in page
    lines = list(csv.DictReader((tmp_path / "out/table1.csv").open()))
    assert {line["published"] for line in lines} == {line["caffe_minus_published"] for line in lines} == {""}


def test_voc_s_classes_of_another_specification_or_fewer_images_say_so(tmp_path):
    for side in ("caffe", "torch"):
        write_side(tmp_path / side, VOC, printed(), "embedded", images={"trainval": 40, "test": 4952})
    page = table1.write(tmp_path, tmp_path / "out", "small")
    assert "not its 5011 trainval and 4952 test images" in page
    assert "Not the paper's specification: images.hr_size, images.lr_size, backbone.name" in page
    for kept in ("snapshots", "blob_images", "weights_file", "seed", "crops"):
        assert kept not in page


def test_sides_that_do_not_belong_together_are_refused(tmp_path):
    write_side(tmp_path / "caffe", VOC, printed())
    with user_error(tmp_path / "torch", "unfinished"):
        (tmp_path / "torch").mkdir()
        (tmp_path / "torch" / "spec.json").write_text((tmp_path / "caffe" / "spec.json").read_text())
        table1.table1(tmp_path)
    (tmp_path / "torch" / "spec.json").unlink()
    (tmp_path / "torch").rmdir()
    write_side(tmp_path / "torch", VOC, printed(), digest="b" * 64)
    with user_error(tmp_path, "one specification"):
        table1.table1(tmp_path)


def test_sides_of_other_labels_are_refused(tmp_path):
    for seed, side in enumerate(("caffe", "torch")):
        write_side(tmp_path / side, VOC, printed(), seed=seed)
    with user_error(tmp_path, "one devkit"):
        table1.table1(tmp_path)


def test_voc2007s_lists_without_annotations_are_told_to_be_no_published_devkit(voc):
    page = table1.write(voc, voc / "out", "drawn")
    assert "annotations" not in page
    for side in ("caffe", "torch"):
        spec = json.loads((voc / side / "spec.json").read_text())
        spec["external"] = {"devkit": {"content": {"Annotations": sha256_json({})}}}
        (voc / side / "spec.json").write_text(json.dumps(spec))
    assert "has no annotations, so that it is not the published one" in table1.write(voc, voc / "out", "drawn")
