"""docker/run: what a command sees, writes and returns in each container that works on this machine."""

import fcntl
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
RUN = PROJECT / "docker" / "run"
RUNTIMES = ("docker", "podman", "chroot")


def engine_answers(name: str) -> bool:
    """Whether docker or podman has an engine behind it."""
    question = [name, "version", "--format", "{{.Server.Version}}"] if name == "docker" else [name, "info"]
    try:
        return subprocess.run(question, capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.fixture(scope="session", params=[pytest.param(name, marks=pytest.mark.caffe) for name in RUNTIMES])
def runtime(request) -> str:
    """Each runtime of this machine, its container prepared."""
    name = request.param
    if name == "chroot" and os.geteuid() != 0:
        pytest.skip("a chroot needs root")
    if name != "chroot" and not engine_answers(name):
        pytest.skip(f"no {name} engine answers on this machine")
    done = subprocess.run(
        [RUN, "--build"], env=environment(CAFFE_RUNTIME=name), capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{name}\n"
    return name


def environment(**changes: str) -> dict[str, str]:
    """The caller's environment with changes, and without what would choose for the test."""
    own = {key: value for key, value in os.environ.items() if key not in ("CAFFE_RUNTIME", "DEBIAN_MIRROR")}
    return own | changes


def run(runtime: str, *arguments, script: Path = RUN, **options) -> subprocess.CompletedProcess:
    """docker/run with arguments, its output as text."""
    changes = options.pop("changes", {})
    options = {"capture_output": True, "text": True, "timeout": 120, "stdin": subprocess.DEVNULL} | options
    return subprocess.run([script, *map(str, arguments)], env=environment(CAFFE_RUNTIME=runtime, **changes), **options)


def output(runtime: str, *arguments, **options) -> str:
    """What a command that succeeds prints."""
    done = run(runtime, *arguments, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def one_line_error(done: subprocess.CompletedProcess) -> str:
    """The error of a run that docker/run itself refused, checked for its form."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("caffe: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


# ---------------------------------------------------------------- what is inside


def test_holds_the_pinned_versions(runtime):
    lines = (PROJECT / "docker" / "packages.txt").read_text().splitlines()
    pinned = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert "python3-caffe" in pinned
    asked = output(runtime, "--", "dpkg-query", "-W", "-f", "${Package}=${Version}\n", *pinned)
    assert dict(line.split("=", 1) for line in asked.splitlines()) == pinned


def test_caffe_computes_with_openblas_and_no_other_blas(runtime):
    program = (
        "import caffe, numpy; numpy.ones((64, 64), 'f') @ numpy.ones((64, 64), 'f')\n"
        "print(*sorted({line.split()[-1] for line in open('/proc/self/maps')\n"
        "               if 'blas.so' in line or 'openblas' in line}), sep='\\n')"
    )
    libraries = output(runtime, "--", "python3", "-c", program).splitlines()
    assert any("libopenblas" in library for library in libraries)
    assert all("openblas" in library for library in libraries)


def test_install_fails_where_caffe_loads_the_reference_blas(runtime, tmp_path):
    """The proof in install.sh, run on a process that has the reference BLAS preloaded under its own name."""
    script = (PROJECT / "docker" / "install.sh").read_text()
    proof = script.split("<< 'PYTHON'\n")[1].split("PYTHON\n")[0]
    (tmp_path / "proof.py").write_text(proof)
    passes = run(runtime, "--read", tmp_path, "--", "python3", tmp_path / "proof.py")
    assert passes.returncode == 0 and "libopenblas" in passes.stdout
    # No reference BLAS is installed; a copy of the thin OpenBLAS front end stands at such a library's name.
    wrong = 'cp /usr/lib/*/openblas-pthread/libblas.so.3 /tmp/libblas.so.3 && LD_PRELOAD=/tmp/libblas.so.3 python3 "$1"'
    fails = run(runtime, "--read", tmp_path, "--", "bash", "-c", wrong, "-", tmp_path / "proof.py")
    assert fails.returncode == 1
    assert "must compute with OpenBLAS only" in fails.stderr and "/tmp/libblas.so.3" in fails.stderr


def test_environment_is_the_documented_one(runtime):
    lines = output(runtime, "--threads", "3", "--", "env", changes={"SECRET": "not for the container"})
    inside = dict(line.split("=", 1) for line in lines.splitlines())
    expected = {
        "PYTHONPATH": str(PROJECT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "GLOG_minloglevel": "2",
        "HOME": "/tmp",
        "LC_ALL": "C.UTF-8",
        "OPENBLAS_NUM_THREADS": "3",
        "OMP_NUM_THREADS": "3",
    }
    assert {key: inside.get(key) for key in expected} == expected
    assert "SECRET" not in inside
    assert "OMP_NUM_THREADS" not in output(runtime, "--", "env")


def test_has_no_network(runtime):
    program = (
        "import errno, socket\n"
        "print([name for _, name in socket.if_nameindex() if name != 'lo'])\n"
        "try:\n"
        "    socket.create_connection(('192.0.2.1', 80), timeout=5)\n"
        "except OSError as error:\n"
        "    print(errno.errorcode[error.errno])\n"
    )
    interfaces, error = output(runtime, "--", "python3", "-c", program).splitlines()
    assert error == "ENETUNREACH"
    # What a kernel makes in every new network namespace by itself (tunl0 and the like) leads nowhere.
    assert "eth0" not in interfaces


def test_has_shared_memory_a_temporary_folder_and_processes_of_its_own(runtime):
    name = f"udft-audit-test-{os.getpid()}"
    program = (
        "import os, sys; from multiprocessing import shared_memory\n"
        "block = shared_memory.SharedMemory(create=True, size=1 << 20); block.close(); block.unlink()\n"
        "before = os.listdir('/tmp'); open('/tmp/' + sys.argv[1], 'w').close()\n"
        "print(before, len([entry for entry in os.listdir('/proc') if entry.isdigit()]))"
    )
    folder, processes = output(runtime, "--", "python3", "-c", program, name).rsplit(maxsplit=1)
    # Nothing but the way to the project, where that lies there.
    assert folder == str([PROJECT.relative_to("/tmp").parts[0]] if PROJECT.is_relative_to("/tmp") else [])
    assert int(processes) <= 3
    assert not (Path("/tmp") / name).exists()


# ---------------------------------------------------------------- what it may write


def test_project_is_read_only_at_its_own_path(runtime):
    inside = output(runtime, "--", "sh", "-c", "pwd; cat docker/packages.txt")
    assert inside == f"{PROJECT}\n" + (PROJECT / "docker" / "packages.txt").read_text()
    done = run(runtime, "--", "touch", PROJECT / "docker" / "x")
    assert done.returncode == 1 and "Read-only file system" in done.stderr
    assert not (PROJECT / "docker" / "x").exists()


def test_root_file_system_is_read_only(runtime):
    done = run(runtime, "--", "touch", "/usr/x")
    assert done.returncode == 1 and "Read-only file system" in done.stderr


def test_root_cannot_make_the_project_writable_again(runtime):
    done = run(runtime, "--", "mount", "-o", "remount,bind,rw", PROJECT)
    assert done.returncode != 0


def test_write_folder_is_made_and_its_files_are_the_callers(runtime, tmp_path):
    folder = tmp_path / "deep" / "with a space"
    output(runtime, "--write", folder, "--", "sh", "-c", 'echo kept > "$1/file"', "-", folder)
    assert (folder / "file").read_text() == "kept\n"
    for path in (folder, folder / "file"):
        assert (path.stat().st_uid, path.stat().st_gid) == (os.getuid(), os.getgid())


def test_write_folder_can_lie_in_the_read_only_project(runtime):
    folder = PROJECT / ".cache" / f"write-test-{os.getpid()}"
    try:
        command = ["sh", "-c", f"touch {folder.name}/file ../x"]
        done = run(runtime, "--write", f".cache/{folder.name}", "--", "env", "-C", ".cache", *command, cwd=PROJECT)
        assert (folder / "file").exists()
        assert done.returncode == 1 and done.stderr.count("Read-only file system") == 1
    finally:
        shutil.rmtree(folder)


def test_read_paths_are_visible_and_read_only(runtime, tmp_path):
    folder, file = tmp_path / "folder", tmp_path / "a file"
    folder.mkdir()
    (folder / "x").write_text("in folder")
    file.write_text("alone")
    (tmp_path / "unnamed").write_text("not to be seen")
    mounts = ["--read", folder, "--read", file]
    assert output(runtime, *mounts, "--", "cat", folder / "x", file) == "in folderalone"
    for path in (folder / "x", file):
        done = run(runtime, *mounts, "--", "sh", "-c", 'echo changed > "$1"', "-", path)
        assert done.returncode != 0 and "Read-only file system" in done.stderr
    assert run(runtime, *mounts, "--", "cat", tmp_path / "unnamed").returncode == 1


def test_path_through_a_symbolic_link_means_the_same_inside(runtime, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    output(runtime, "--write", tmp_path / "link", "--", "touch", tmp_path / "link" / "1", tmp_path / "real" / "2")
    assert sorted(os.listdir(tmp_path / "real")) == ["1", "2"]


def test_link_of_the_container_leads_nowhere_outside(runtime, tmp_path):
    """A target below a link inside the container (/var/run is one) is made there, not on the host."""
    name = f"udft-audit-test-{os.getpid()}"
    folder = Path("/var/run") / name
    if not os.access("/run", os.W_OK):
        pytest.skip("this user cannot make a folder in /run")
    try:
        output(runtime, "--write", folder, "--", "touch", folder / "file")
        assert (folder / "file").exists()
    finally:
        shutil.rmtree(folder)


def test_sudo_runs_as_the_user_who_called_it(runtime, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    uid, gid = 65534, 65534
    home = Path("/tmp") / f"udft-audit-sudo-{os.getpid()}"
    home.mkdir()
    try:
        os.chown(home, uid, gid)
        sudo = {"SUDO_UID": str(uid), "SUDO_GID": str(gid)}
        command = ["sh", "-c", 'id -u; id -g; touch "$1"/file; touch /tmp/own', "-", home / "new"]
        text = output(runtime, "--write", home / "new", "--", *command, changes=sudo)
        assert text.split() == [str(uid), str(gid)]
        for path in (home / "new", home / "new" / "file"):
            assert (path.stat().st_uid, path.stat().st_gid) == (uid, gid)
        # A folder that root made, as `sudo make` does, is the caller's too; another user's stays as it is.
        (home / "root's").mkdir(mode=0o755)
        output(runtime, "--write", home / "root's", "--", *command[:-1], home / "root's", changes=sudo)
        assert (home / "root's" / "file").stat().st_uid == uid
    finally:
        shutil.rmtree(home)


# ---------------------------------------------------------------- command, status, signals


@pytest.mark.parametrize("status", [0, 1, 2, 77])
def test_exit_status_is_the_commands(runtime, status):
    assert run(runtime, "--", "sh", "-c", f"exit {status}").returncode == status


def test_missing_command_is_127(runtime):
    assert run(runtime, "--", "no-such-command").returncode == 127


def test_arguments_pass_literally(runtime):
    arguments = ["two words", "", "'single'", '"double"', "$HOME `id` $(id)", "*", "\\n", "-x", "--", "--write", "é\nñ"]
    program = "import json, sys; print(json.dumps(sys.argv[1:]))"
    assert json.loads(output(runtime, "--", "python3", "-c", program, *arguments)) == arguments


def test_standard_input_is_passed(runtime):
    assert output(runtime, "--", "wc", "-c", stdin=None, input="12345") == "5\n"


@pytest.mark.parametrize("name", ["$(touch injected)", "`touch injected`", "; touch injected;", "' touch injected '"])
def test_path_is_never_run_as_shell(runtime, tmp_path, name):
    folder = tmp_path / name
    output(runtime, "--write", folder, "--", "touch", folder / "file", cwd=tmp_path)
    assert os.listdir(tmp_path) == [name] and os.listdir(folder) == ["file"]


def test_terminal_reaches_the_command_and_ctrl_c_stops_it(runtime, tmp_path):
    mark = f"{tmp_path.name}-ctrl-c"
    folder = tmp_path / mark
    program = "import sys, time; print('tty', sys.stdout.isatty(), flush=True); time.sleep(1000)"
    child, terminal = pty.fork()
    if child == 0:
        os.environ["CAFFE_RUNTIME"] = runtime
        os.execv(RUN, [str(RUN), "--write", str(folder), "--", "python3", "-c", program, mark])
    seen = read_until(terminal, b"tty True")
    os.write(terminal, b"\x03")
    seen += read_until(terminal, b"KeyboardInterrupt")
    assert b"tty True" in seen and b"KeyboardInterrupt" in seen
    assert os.waitstatus_to_exitcode(wait_for(child)) == 130
    assert left_overs(mark) == []


def test_killed_run_leaves_nothing_behind(runtime, tmp_path):
    mark = f"{tmp_path.name}-killed"
    command = ["--write", str(tmp_path / mark), "--", "sh", "-c", "echo ready; sleep 1000", mark]
    with subprocess.Popen(
        [RUN, *command], env=environment(CAFFE_RUNTIME=runtime), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (143, 137)
    assert left_overs(mark) == []


def read_until(terminal: int, text: bytes, seconds: float = 60) -> bytes:
    seen = b""
    deadline = time.monotonic() + seconds
    while text not in seen and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                seen += os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
    return seen


def wait_for(child: int, seconds: float = 30) -> int:
    """The wait status of child, which must end by itself."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("docker/run did not end")


def left_overs(mark: str) -> list[str]:
    """Mounts and processes of this machine that carry mark; processes have a moment to end."""
    for _ in range(50):
        found = [line for line in Path("/proc/mounts").read_text().splitlines() if mark in line]
        for command_line in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                text = command_line.read_bytes()
            except OSError:
                continue
            if mark.encode() in text and int(command_line.parent.name) != os.getpid():
                found.append(text.replace(b"\0", b" ").decode())
        if not found:
            break
        time.sleep(0.1)
    return found


# ---------------------------------------------------------------- errors, on a copy of docker/ with tools of our choice


@pytest.fixture
def copy(tmp_path) -> Path:
    """docker/run of a project folder with nothing in it but docker/."""
    shutil.copytree(PROJECT / "docker", tmp_path / "project" / "docker")
    return tmp_path / "project" / "docker" / "run"


@pytest.fixture
def bare_path(tmp_path) -> Path:
    """A folder with what docker/run always needs, and no way to make a container."""
    folder = tmp_path / "bin"
    folder.mkdir()
    tools = [
        "awk",
        "bash",
        "cat",
        "cut",
        "dirname",
        "env",
        "flock",
        "id",
        "mkdir",
        "realpath",
        "rm",
        "sed",
        "setpriv",
        "sha256sum",
        "sort",
        "tail",
        "timeout",
    ]
    for tool in tools:
        (folder / tool).symlink_to(shutil.which(tool))
    return folder


def imitate(folder: Path, name: str, script: str) -> None:
    """An executable called name in folder; a link of that name is replaced, never written through."""
    (folder / name).unlink(missing_ok=True)
    with open(folder / name, "x") as file:
        file.write("#!/bin/bash\n" + script)
    (folder / name).chmod(0o755)


def test_unknown_runtime_is_refused(copy):
    assert "CAFFE_RUNTIME=lxc is unknown" in one_line_error(run("lxc", "--", "true", script=copy))


def test_no_container_names_three_ways_out(copy, bare_path):
    error = one_line_error(run("auto", "--", "true", script=copy, changes={"PATH": str(bare_path)}))
    for way in ("Docker Engine", "Podman", "chroot"):
        assert way in error


@pytest.mark.parametrize("name", RUNTIMES)
def test_named_runtime_that_does_not_work_is_an_error(copy, bare_path, name):
    error = one_line_error(run(name, "--", "true", script=copy, changes={"PATH": str(bare_path)}))
    assert f"CAFFE_RUNTIME={name}" in error


def test_client_without_engine_is_no_runtime(copy, bare_path):
    imitate(bare_path, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    error = one_line_error(run("auto", "--", "true", script=copy, changes={"PATH": str(bare_path)}))
    assert "no container works here" in error


ENGINE = """
case $1 in
    version) echo 1 ;;
    image) exit {has_image} ;;
    pull) echo 'no such host'; exit 1 ;;
    run) printf '%s\\n' "$@" ;;
    *) echo "unexpected: $*" >&2; exit 1 ;;
esac
"""


def test_engine_without_registry_and_without_root_says_so(copy, bare_path):
    imitate(bare_path, "docker", ENGINE.format(has_image=1))
    imitate(bare_path, "id", "echo 1000")
    done = run("docker", "--", "true", script=copy, changes={"PATH": str(bare_path)})
    assert done.returncode == 2
    assert "no image registry answers" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("broken", ["cannot build", "cannot run"])
def test_auto_passes_over_an_engine_that_does_not_get_there(copy, bare_path, broken):
    if broken == "cannot build":
        imitate(bare_path, "docker", ENGINE.format(has_image=1))
    else:
        imitate(bare_path, "docker", ENGINE.format(has_image=0).replace("run)", "run) exit 125;"))
    imitate(bare_path, "podman", ENGINE.format(has_image=0).replace("version", "info"))
    imitate(bare_path, "id", "echo 1000")
    done = run("auto", "--", "true", script=copy, changes={"PATH": str(bare_path)})
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].startswith("caffe: podman image udft-audit-caffe:")
    assert "--userns=keep-id" in done.stdout.splitlines()


@pytest.mark.parametrize("name", ["a,b", 'a"b'])
def test_engine_refuses_a_path_that_it_cannot_mount(copy, bare_path, tmp_path, name):
    imitate(bare_path, "docker", ENGINE.format(has_image=0))
    done = run("docker", "--write", tmp_path / name, "--", "true", script=copy, changes={"PATH": str(bare_path)})
    assert name in one_line_error(done)


def test_project_path_with_a_colon_is_refused(copy):
    project = copy.parents[1]
    renamed = project.rename(project.with_name("a:b"))
    assert "a:b" in one_line_error(run("chroot", "--", "true", script=renamed / "docker" / "run"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no command"),
        (["--"], "no command"),
        (["true"], "true is no option"),
        (["--write"], "--write needs a value"),
        (["--threads", "0", "--", "true"], "--threads 0"),
        (["--threads", "two", "--", "true"], "--threads two"),
        (["--read", "/no/such/path", "--", "true"], "/no/such/path: no such file"),
        (["--read", "/", "--", "true"], "/ cannot be mounted"),
        (["--write", "/dev/null/x", "--", "true"], "cannot be made"),
        (["--write", "a\nb", "--", "true"], "line break"),
    ],
)
def test_wrong_arguments_are_one_line(copy, tmp_path, arguments, said):
    assert said in one_line_error(run("chroot", *arguments, script=copy, cwd=tmp_path))


def test_project_itself_cannot_be_written(copy):
    assert "read-only" in one_line_error(run("chroot", "--write", copy.parents[1], "--", "true", script=copy))


def test_help_is_the_header(copy):
    text = output("auto", "--help", script=copy)
    assert "CAFFE_RUNTIME" in text and "#" not in text and "set -" not in text


# ---------------------------------------------------------------- preparing


def chroot_tools(folder: Path, debootstrap: str) -> dict[str, str]:
    """PATH for a chroot preparation whose debootstrap is the given script."""
    imitate(folder, "debootstrap", debootstrap)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_failed_preparation_shows_the_log_and_is_not_used(copy, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("a chroot needs root")
    folder = tmp_path / "bin"
    folder.mkdir()
    changes = chroot_tools(folder, 'mkdir -p "$4"; echo E: Failed getting release file; exit 1')
    done = run("chroot", "--", "true", script=copy, changes=changes)
    assert done.returncode == 2
    cache = copy.parents[1] / ".cache"
    assert "Failed getting release file" in done.stderr
    assert "DEBIAN_MIRROR=URL" in done.stderr
    assert done.stderr.splitlines()[-1].endswith(str(cache / "debootstrap.log"))
    assert [path for path in cache.glob("chroot-*") if path.suffix != ".partial"] == []


def test_mirror_reaches_debootstrap(copy, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("a chroot needs root")
    folder = tmp_path / "bin"
    folder.mkdir()
    changes = chroot_tools(folder, 'printf "<%s>" "$@"; exit 1')
    log = copy.parents[1] / ".cache" / "debootstrap.log"
    run("chroot", "--", "true", script=copy, changes=changes)
    assert log.read_text().endswith("partial>")
    run("chroot", "--", "true", script=copy, changes=changes | {"DEBIAN_MIRROR": "http://mirror.test/x y"})
    assert log.read_text().endswith("partial><http://mirror.test/x y>")


def test_second_caller_waits_for_the_first(copy, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("a chroot needs root")
    cache = copy.parents[1] / ".cache"
    cache.mkdir()
    folder = tmp_path / "bin"
    folder.mkdir()
    lock = os.open(cache, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with subprocess.Popen(
        [copy, "--build"],
        env=environment(CAFFE_RUNTIME="chroot", **chroot_tools(folder, "touch $(dirname $4)/began; exit 1")),
        stderr=subprocess.PIPE,
        text=True,
    ) as second:
        assert "waiting" in second.stderr.readline()
        assert not (cache / "began").exists()
        os.close(lock)
        assert second.wait(20) == 2
    assert (cache / "began").exists()


def test_new_chroot_replaces_old_ones_except_one_in_use(copy, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("a chroot needs root")
    cache = copy.parents[1] / ".cache"
    for name in ("chroot-old", "chroot-used", "chroot-cut.partial"):
        (cache / name / "usr").mkdir(parents=True)
    folder = tmp_path / "bin"
    folder.mkdir()
    # An empty folder in place of a Debian: made and moved into place, only not to be run in.
    imitate(copy.parent, "install-chroot", "exit 0")
    changes = chroot_tools(folder, 'mkdir "$4"')
    used = os.open(cache / "chroot-used", os.O_RDONLY)
    fcntl.flock(used, fcntl.LOCK_SH)
    done = run("chroot", "--build", script=copy, changes=changes)
    os.close(used)
    assert done.returncode == 2 and "try-chroot.log" in done.stderr.splitlines()[-1]
    left = sorted(path.name for path in cache.glob("chroot-*"))
    assert len(left) == 2 and left[1] == "chroot-used"
    assert (cache / left[0] / "opt" / "udft-audit" / "packages.txt").exists()
