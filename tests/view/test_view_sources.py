"""The scripts under `widgets/`: their size, what they may not use, how they are joined; and payloads as bytes."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib

import numpy as np
import pytest

from workbench.view import sources
from workbench.view.pack import pack, zipped

FILES = sorted(p for p in sources.folder().iterdir() if p.suffix in (".js", ".css"))
KINDS = [p.stem for p in FILES if p.suffix == ".js" and re.search(r"^export function view\b", p.read_text(), re.M)]
# What would make text into code or markup, or ask the network.
FORBIDDEN = (
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|\.srcdoc|createContextualFragment"
)
FORBIDDEN += r"|\bfetch\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon|https?://|importScripts|localStorage"


def test_sources_are_small_and_readable():
    assert sum(p.stat().st_size for p in FILES) <= sources.ALL_BYTES
    for kind in KINDS:
        assert len(sources.widget_script((kind,)).encode()) <= sources.WIDGET_BYTES, kind
    for path in FILES:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert max(map(len, lines)) <= 160, path.name
        assert len(lines) <= 600, path.name


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_sources_use_nothing_dangerous(path):
    text = path.read_text(encoding="utf-8")
    assert re.findall(FORBIDDEN, text) == []
    assert "</script" not in text.lower() and "<!--" not in text and "url(" not in text


def test_modules_are_joined_after_what_they_import(tmp_path):
    (tmp_path / "core.js").write_text("export const one = 1;\n")
    (tmp_path / "page.js").write_text("export const hydrate = 1;\n")
    (tmp_path / "a.js").write_text('import { one } from "./core.js";\nexport function view() { return one; }\n')
    (tmp_path / "b.js").write_text('import { view as a } from "./a.js";\nexport function view() { return a(); }\n')
    (tmp_path / "b.css").write_text(".b { content: '\u2028' }\n")
    assert sources.order(["b"], tmp_path) == ["core", "a", "b"]
    script = sources.page_script(("b",), tmp_path)
    assert "const {one} = core" in script.replace("{ ", "{").replace(" }", "}") and "view: a" in script
    assert "import" not in script and "export" not in script and "const views = { b: b.view };" in script


def test_modules_that_cannot_be_joined_are_refused(tmp_path):
    (tmp_path / "core.js").write_text("export const one = 1;\n")
    (tmp_path / "page.js").write_text("export const hydrate = 1;\n")
    (tmp_path / "a.js").write_text('import { view } from "./b.js";\n')
    (tmp_path / "b.js").write_text('import { view } from "./a.js";\n')
    (tmp_path / "c.js").write_text("export default 1;\n")
    with pytest.raises(ValueError, match="circle: a > b > a"):
        sources.page_script(("a",), tmp_path)
    with pytest.raises(ValueError, match="export default"):
        sources.page_script(("c",), tmp_path)
    with pytest.raises(FileNotFoundError, match="no module"):
        sources.page_script(("../core",), tmp_path)


def unpack(data: bytes) -> tuple[dict, dict]:
    """What the page's `unpack` does: payload, and arrays by path."""
    (size,) = struct.unpack_from("<I", data)
    head = json.loads(data[4 : 4 + size])
    start = -(-(4 + size) // 8) * 8
    arrays = {}
    for entry in head["arrays"]:
        count = int(np.prod(entry["shape"]))
        at = start + entry["offset"]
        assert at % 8 == 0
        values = np.frombuffer(data, entry["dtype"], count, at).reshape(entry["shape"])
        arrays[".".join(map(str, entry["path"]))] = values
    return head["payload"], arrays


def test_a_payload_comes_back_from_its_bytes():
    payload = {
        "text": "é😀\ud800</script>",
        "none": None,
        "deep": [{"values": np.arange(5, dtype=np.uint8)}, {"values": np.array([[1.5, np.nan]], ">f4")}],
        "empty": np.zeros(0, np.float64),
        "last": np.array([7], np.int16),
    }
    bare, arrays = unpack(pack(payload))
    assert bare["text"] == payload["text"] and bare["deep"] == [{"values": None}, {"values": None}]
    assert arrays["deep.0.values"].tolist() == [0, 1, 2, 3, 4] and arrays["last"].tolist() == [7]
    assert arrays["deep.1.values"].shape == (1, 2) and arrays["deep.1.values"][0, 0] == 1.5
    assert zlib.decompress(base64.b64decode(zipped(pack(payload)))) == pack(payload)


def test_what_a_browser_has_no_array_for_is_refused():
    with pytest.raises(TypeError, match="a.0: expected one of .* got int64; cast"):
        pack({"a": [np.arange(3)]})
    with pytest.raises(ValueError):
        pack({"a": float("nan")})


def test_what_is_loaded_has_no_comments_and_the_same_code():
    text = "// a\n  x(); // why\n/** b\n * c */\nf('// kept'); // it's \"so\"\n/* d */ y();\n"
    assert sources.bare(text) == "x();\nf('// kept'); // it's \"so\"\n/* d */ y();\n"
