"""Running small scripts with node and the npm packages that sites use."""

import asyncio
import json
import os
import shutil
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "node"


def node_modules() -> Path:
    """Where the packages of `tests/node/package.json` are installed: `NKS_NODE_MODULES`, else beside that file."""
    return Path(os.environ.get("NKS_NODE_MODULES") or SCRIPTS / "node_modules")


async def run_script(name: str, *arguments: str, timeout_seconds: float = 60.0) -> Any:
    """Run `tests/node/NAME` and give what it prints as JSON. Skips the test where node or a package is missing."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not on PATH")
    wanted = json.loads((SCRIPTS / "package.json").read_text())["dependencies"]
    missing = [package for package in wanted if not (node_modules() / package / "package.json").exists()]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (npm install --no-package-lock in tests/node)")
    environment = os.environ | {"NODE_PATH": str(node_modules())}
    process = await asyncio.create_subprocess_exec(
        node, str(SCRIPTS / name), *arguments, stdout=PIPE, stderr=PIPE, env=environment
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), timeout_seconds)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return json.loads(output)
