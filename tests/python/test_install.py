"""The commands by which users install the package: run as the documents show them.

They fetch TensorFlow anew, so they are for the full profile.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ARTICLES, README, ROOT, all_blocks, blocks

pytestmark = pytest.mark.full

_R_CODE = """
{install}
library(groupnorm)
stopifnot(groupnorm_config()$usable)
{code}
stopifnot(model$count_params() == 32 * 9 + 2 * 32 + 33 * 10)
"""


@pytest.fixture
def run(tmp_path):
    """Runs a command in a clone, without what the tests themselves have installed."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    ours = ("R_LIBS", "RETICULATE_PYTHON", "PYTHONPATH", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if name not in ours}
    # The one Python to be found is that which the tests' own environment was made from;
    # what pip was told is still known.
    config = env.get("XDG_CONFIG_HOME", str(Path.home() / ".config"))
    env.pop("PYENV_ROOT", None)
    env.update(HOME=str(tmp_path), XDG_CONFIG_HOME=config)
    own = str(Path(sys.prefix) / "bin")
    others = [one for one in env["PATH"].split(os.pathsep) if one != own]
    env["PATH"] = os.pathsep.join([str(Path(sys.base_prefix) / "bin"), *others])

    def run(command, **more):
        subprocess.run(command, cwd=clone, env={**env, **more}, check=True, timeout=900)

    return run


def test_python_by_pip(run, tmp_path):
    command = next(c for c in blocks(README, "sh") if "pip install" in c)
    environment = tmp_path / "env"
    run([sys.executable, "-m", "venv", environment])
    run(["sh", "-c", f'PATH="{environment}/bin:$PATH"\n{command}'])
    code = "\n".join(blocks(README))
    run([environment / "bin/python", "-c", code])


def test_r_by_its_own_command_and_function(run, tmp_path):
    command = next(c for c in blocks(README, "sh") if "R CMD INSTALL" in c)
    (tmp_path / "library").mkdir()
    own = {"R_LIBS": str(tmp_path / "library"), "WORKON_HOME": str(tmp_path / "envs")}
    run(["sh", "-c", command], **own)
    chunks = all_blocks(ARTICLES / "get-started.Rmd", "r")
    (install,) = [
        chunk.code for chunk in chunks if chunk.options.startswith(" install")
    ]
    code = "\n".join(blocks(README, "r"))
    script = tmp_path / "script.R"
    script.write_text(_R_CODE.format(install=install, code=code))
    run(["Rscript", script], **own)
