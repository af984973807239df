"""What is announced before a run, and when it is refused."""

from collections import namedtuple

import pytest

from experiment import plan
from experiment.artifacts import RunFolder, write_json
from experiment.errors import UserError
from experiment.plan import blob_values, count_images, disk_of, size_text, time_text
from experiment.spec import read_profile, shorten

PAPER = {"trainval": 5011, "test": 4952}
GB = 1e9


@pytest.fixture
def values():
    return read_profile("paper")[0]


@pytest.fixture
def run(tmp_path, values) -> RunFolder:
    lists = tmp_path / "devkit" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_bytes(b"000001\r\n000002\r\n\r\n000003")
    (lists / "test.txt").write_text("000004\n")
    write_json(tmp_path / "spec.json", {"values": values, "external": {"devkit": {"path": str(tmp_path / "devkit")}}})
    return RunFolder(tmp_path)


def test_images_are_counted_from_the_lists(run, values):
    assert count_images(run.path / "devkit", values["index"]) == {"trainval": 3, "test": 1}
    assert count_images(run.path / "devkit", {**values["index"], "limit": 2}) == {"trainval": 2, "test": 1}
    assert count_images(run.path / "nowhere", values["index"]) == {"trainval": 0, "test": 0}


def test_the_disk_of_images_and_features_is_what_their_arrays_hold(values):
    assert disk_of("images", values, PAPER) == 2 * 9963 * 224 * 224 * 3
    blobs = values["features"]["blob_images"] * blob_values(224, values["backbone"])
    assert disk_of("features", values, PAPER) == 4 * (2 * 9963 * 2048 + blobs)


def test_the_blobs_of_resnet101_are_counted_by_their_shapes(values):
    """Brute force over the architecture of He et al. 2016, table 1: 3-224, 64-112, 64-56 pooled (in Caffe 56), ..."""
    total = 3 * 224**2 + 64 * 112**2 + 64 * 56**2
    for width, blocks, side in ((64, 3, 56), (128, 4, 28), (256, 23, 14), (512, 3, 7)):
        for block in range(blocks):
            total += (width + width + 4 * width + 4 * width) * side**2 + (4 * width * side**2 if block == 0 else 0)
    assert blob_values(224, values["backbone"]) == total


def test_the_disk_of_training_covers_its_snapshots(values):
    weights = 4096 * 2048 + 4096 + 100 * 4096 + 100
    written = 4 * weights * (2 * len(values["transfer"]["snapshots"]) + 2)
    assert written < disk_of("transfer", values, PAPER) < 1.5 * written


def test_what_is_to_be_done_is_said_with_disk_and_time(run, capsys):
    plan.announce(
        run,
        ["images", "transfer"],
        lambda run, counts, engine: {"images": 10.0 * sum(counts.values()), "svm": 9e9},
        "auto",
    )
    said = capsys.readouterr().err
    assert "3 + 1 images" in said and "31561 training iterations" in said and "images, transfer" in said
    assert "about 40 s (images 40 s)" in said and "needed" in said and "free" in said


def test_a_disk_that_is_too_small_is_refused_before_anything_is_measured(run, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: usage(1e6))
    with pytest.raises(UserError, match=r"needs .* and its disk has 1 MB free: make room, or .* RUN="):
        plan.announce(run, ["transfer"], lambda run, counts, engine: pytest.fail("measured"), "auto")


@pytest.mark.parametrize(("size", "said"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (6e9, "6 GB"),
                                            (123e9, "123 GB"), (2e13, "20 TB"), (5e16, "50000 TB")])  # fmt: skip
def test_sizes_in_words(size, said):
    assert size_text(size) == said


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "0 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h")])
def test_times_in_words(seconds, said):
    assert time_text(seconds) == said


def test_a_limit_shortens_the_schedule_in_proportion(values):
    sources: dict[str, str] = {}
    shorten(values, sources, 500, 5011)
    transfer = values["transfer"]
    assert values["index"]["limit"] == 500
    assert (transfer["stepsize"], transfer["max_iter"]) == (1497, 3149)  # 15,000 and 31,561 times 500 / 5,011
    assert transfer["snapshots"] == [1, 2, 1496, 1497, 1498, 2993, 2994, 2995, 3149]
    assert set(sources.values()) == {"LIMIT=500"}


@pytest.mark.parametrize("limit", [1, 2, 20, 99, 5011, 10**6])
def test_whatever_the_limit_the_schedule_has_two_drops_and_single_steps(values, limit):
    from experiment.spec import check_together

    shorten(values, {}, limit, 5011)
    check_together(values, "here")
    transfer = values["transfer"]
    assert transfer["max_iter"] > 2 * transfer["stepsize"] and values["clusters"]["k"] == transfer["n2"] <= limit
    assert transfer["max_iter"] <= 31561
