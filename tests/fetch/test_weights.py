"""The table of sources, and the command: downloaded, converted, or told what to do by hand."""

import hashlib
import json
import random
import tomllib

import fake_descendants as fake
import pytest

from experiment.artifacts import sha256_file
from experiment.errors import run_command
from experiment.resolve import find_weights
from experiment.spec import read_profile
from fetch import weights
from fetch.convert.caffemodel import READERS
from prototxt import generate

MODEL, MEAN = random.Random(1).randbytes(5000), random.Random(2).randbytes(700)
TABLE = tomllib.loads(weights.TABLE.read_text(encoding="utf-8"))


def table_text(model_url: str, mean_url: str, *more_model_urls: str) -> str:
    """A table like the real one, of two small files."""
    entries = {"caffemodel": (MODEL, [model_url, *more_model_urls]), "mean": (MEAN, [mean_url])}
    lines = []
    for key, (content, urls) in entries.items():
        digest = hashlib.sha256(content).hexdigest()
        lines += [f"[{key}]", f'name = "{TABLE[key]["name"]}"', f"bytes = {len(content)}", f'sha256 = "{digest}"']
        lines += [f'[[{key}.sources]]\nurl = "{url}"' for url in urls]
    by_hand = [
        f"[[caffemodel.by_hand]]\nurl = {json.dumps(p['url'])}\nseen = 'x'" for p in TABLE["caffemodel"]["by_hand"]
    ]
    kinds = [f"[descendants.{kind}]\nurl = 'http://127.0.0.1/{kind}'" for kind in TABLE["descendants"]]
    return "\n".join([*lines, *by_hand, *kinds])


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    """A function that runs the command with a table's text and gives (exit status, stdout, stderr)."""

    def run(table: str, *arguments: object) -> tuple[int, str, str]:
        (tmp_path / "table.toml").write_text(table)
        monkeypatch.setattr(weights, "TABLE", tmp_path / "table.toml")
        monkeypatch.setattr("sys.argv", ["fetch.weights", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_command(weights.main)
        return (int(ended.value.code), *capsys.readouterr())

    return run


def test_the_table_has_the_profiles_weights():
    paper, _ = read_profile("paper")
    model = TABLE["caffemodel"]
    assert model["sha256"] == paper["backbone"]["weights_sha256"]
    assert (model["bytes"], TABLE["mean"]["bytes"]) == (178_662_602, 602_126)
    assert set(TABLE["descendants"]) == set(READERS)


def test_every_source_says_where_it_was_seen():
    for key in ("caffemodel", "mean"):
        urls = [source["url"] for source in TABLE[key]["sources"]]
        assert len(urls) == len(set(urls)) >= 2
        assert all(url.startswith(("http://", "https://")) for url in urls)
        assert all(source["seen"] and source["state"] for source in TABLE[key]["sources"])
    assert all(place["seen"] for place in [*TABLE["caffemodel"]["by_hand"], *TABLE["descendants"].values()])
    assert not any("baidu" in source["url"] for source in TABLE["caffemodel"]["sources"])


def test_the_sources_are_asked_in_order_until_one_has_it(command, serve, tmp_path):
    dead, wrong, good, never, mean = serve(MODEL, 404), serve(MODEL, "wrong"), serve(MODEL), serve(MODEL), serve(MEAN)
    table = table_text(dead.url, mean.url, wrong.url, good.url, never.url)
    status, out, _ = command(table, tmp_path / "to")
    assert status == 0
    assert (tmp_path / "to" / "ResNet-101-model.caffemodel").read_bytes() == MODEL
    assert (tmp_path / "to" / "ResNet_mean.binaryproto").read_bytes() == MEAN
    assert len(list((tmp_path / "to").iterdir())) == 2
    assert [len(server.ranges) for server in (dead, good, never)] == [1, 1, 0] and wrong.ranges
    assert f"WEIGHTS={tmp_path / 'to' / 'ResNet-101-model.caffemodel'}" in out and "PROFILE=paper" in out
    assert command(table, tmp_path / "to")[0] == 0
    assert len(good.ranges) == len(mean.ranges) == 1  # not fetched again


def test_what_no_source_has_can_be_had_by_hand(command, serve, tmp_path):
    gone = serve(MODEL, 404)
    status, out, err = command(table_text(gone.url, gone.url), tmp_path / "to")
    assert (status, out) == (2, "")
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "ResNet-101-model.caffemodel" in errors[0] and "404" in errors[0]
    assert err.splitlines()[-1] == errors[0]
    assert "https://pan.baidu.com/s/1geGD9zt" in err and str(tmp_path / "to") in err
    assert all(f"FROM={kind}: http://127.0.0.1/{kind}" in err for kind in READERS)
    assert list((tmp_path / "to").iterdir()) == []
    (tmp_path / "to" / "ResNet-101-model.caffemodel").write_bytes(MODEL)  # by hand
    assert command(table_text(gone.url, serve(MEAN).url), tmp_path / "to")[0] == 0


def test_without_a_mean_file_the_weights_are_of_use(command, serve, tmp_path):
    status, out, _ = command(table_text(serve(MODEL).url, serve(MEAN, 404).url), tmp_path / "to")
    assert status == 0 and "WEIGHTS=" in out and "without the mean file" in out


def test_another_file_under_the_models_name_is_kept_and_named(command, serve, tmp_path):
    (tmp_path / "ResNet-101-model.caffemodel").write_bytes(b"mine")
    status, _, err = command(table_text(serve(MODEL).url, serve(MEAN).url), tmp_path)
    assert status == 2 and "delete it or move it away" in err
    assert (tmp_path / "ResNet-101-model.caffemodel").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--from", "keras"], "get https://storage.googleapis.com"),
        (["--file", "x.h5"], "needs FROM="),
        (["--from", "keras", "--file", "nowhere.h5"], "FILE=nowhere.h5 is not a file"),
    ],
)
def test_options_that_lack_each_other_are_refused(arguments, says, command, tmp_path):
    status, _, err = command(weights.TABLE.read_text(), tmp_path / "to", *arguments)
    assert status == 2 and says in err and len(err.splitlines()) == 1


def test_unknown_descendant_is_refused(command, tmp_path):
    status, _, err = command(weights.TABLE.read_text(), tmp_path, "--from", "tensorflow", "--file", "x")
    assert status == 2 and "matconvnet" in err


def test_a_converted_file_is_accepted_with_the_printed_sha256(command, monkeypatch, tmp_path):
    fake.write_torch(tmp_path / "descendant.pth", fake.torch_arrays(fake.SHORT))
    (tmp_path / "net.prototxt").write_text(generate.resnet("ResNet-101", 64, *fake.SHORT, fake.CLASSES))
    monkeypatch.setattr(weights, "PROTOTXT", tmp_path / "net.prototxt")
    folder = tmp_path / "to"
    arguments = (folder, "--from", "torch", "--file", tmp_path / "descendant.pth")
    status, out, _ = command(weights.TABLE.read_text(), *arguments)
    path = folder / "ResNet-101-from-torch.caffemodel"
    digest = sha256_file(path)
    assert status == 0
    assert f"WEIGHTS={path} SET=backbone.weights_sha256={digest}" in out
    assert "features.mean_bgr=[103.53,116.28,123.675]" in out
    assert "stride 2 on the 3x3" in out and "fc1000 is zeros" in out
    assert find_weights(path, {"weights_file": "", "weights_sha256": digest}, "paper")["sha256"] == digest
    assert sorted(p.name for p in folder.iterdir()) == [path.name, "ResNet-101-from-torch.json"]
