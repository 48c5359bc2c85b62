"""Static HTML: what an untrusted notebook keeps, what hostile text cannot do, how large it gets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from workbench import show, view
from workbench.batch import Batch
from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.trajectory import Example, Message, Part, Sequence, Span, ToolCall, Trajectory, Turn
from workbench.view import html, payload
from workbench.view.escape import esc, json_for_html, visible
from workbench.view.html.parts import PAGE_BYTES, REPR_BYTES
from workbench.view.tags import el


def test_nothing_that_a_sanitiser_drops(rollouts, credits, fragments, kit):
    for name, fragment in fragments(rollouts, credits).items():
        assert kit.read(fragment).wrong == [], name


def test_the_contract_catches_what_is_forbidden(kit):
    for bad in (
        '<div style="color:var(--x)">a</div>',
        '<div style="background-color:hsl(1,2%,3%)">a</div>',
        '<div style="background-color:rgba(0 0 0 / 1)">a</div>',
        "<script>1</script>",
        '<div id="x">a</div>',
        '<div data-x="1">a</div>',
        '<mark style="color:inherit">a</mark>',
        "<svg></svg>",
        "<!-- x -->",
        "<div>",
    ):
        assert kit.read(bad).wrong, bad


def test_every_wash_has_words(rollouts, credits, kit):
    """No information by colour alone: a washed run or cell holds its number, or has a title that does."""
    fragment = view.mimebundle(view.CreditMap(rollouts, 1, credits))["text/html"]
    titles = kit.read(fragment).titles
    assert "−1.00, 6 tokens" in titles and any(t.startswith("unknown") for t in titles)
    assert any("forced, not sampled: never trained" in t for t in titles)


def test_marks_and_words_of_each_status(kit):
    t = kit.trajectory("a", "g", [" one", " two", " three", " four", " five"], [], 1.0)
    turns = (*t.turns[:4], replace(t.turns[4], trainable=False, why_not="another agent"))
    r = Rollouts((replace(t, turns=turns),))
    credit = kit.credit("turn", [1.0, 0.0, None, 2.0, 3.0], drop=[3])
    fragment = view.CreditMap(r, 0, {"m": credit}).html()
    text = "".join(kit.read(fragment).text)
    for word in ("positive", "negative", "zero", "unknown", "dropped", "not trained: another agent"):
        assert word in text
    for style in (
        "line-through",
        "font-style:italic",
        "1px dotted",
        "border-bottom:1px solid",
        "linear-gradient(135deg",
    ):
        assert style in fragment


def test_collapsed_groups_are_named(rollouts, credits, kit):
    text = "".join(kit.read(view.Overview(rollouts, credits).html()).text)
    assert "collapsed: all outcomes equal" in text and "1 collapsed" in text


def test_equal_neighbours_are_one_run(rollouts, credits):
    one = {"GRPO": credits["GRPO"]}
    fragment = html.credit_map(payload.credit_map(rollouts, 1, one))
    assert fragment.count("tokens&quot;") == 0 and fragment.count('title="−1.00, ') == 3


# --------------------------------------------------------------------------------------------- hostile text

HOSTILE = [
    "<script>window.hit=1</script>",
    "</script><script>window.hit=1</script>",
    "</style><script>window.hit=1</script>",
    "</title><script>window.hit=1</script>",
    "</pre></td></table></details><script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    "<img src='https://example.invalid/pixel.png'>",
    "<svg onload=window.hit=1>",
    "<svg><script>window.hit=1</script></svg>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=window.hit=1>",
    "<iframe srcdoc='<script>parent.hit=1</script>'>",
    "<object data=javascript:window.hit=1>",
    "<embed src=javascript:window.hit=1>",
    "<a href=javascript:window.hit=1>x</a>",
    "<a href='data:text/html,<script>window.hit=1</script>'>x</a>",
    "<body onload=window.hit=1>",
    "<details open ontoggle=window.hit=1>",
    "<video><source onerror=window.hit=1></video>",
    "<input autofocus onfocus=window.hit=1>",
    "<form action=https://example.invalid><button>go</button></form>",
    "<base href=https://example.invalid/>",
    "<link rel=stylesheet href=https://example.invalid/x.css>",
    "<meta http-equiv=refresh content='0;url=https://example.invalid'>",
    "<style>*{display:none}</style>",
    "<style>@import 'https://example.invalid/x.css';</style>",
    '" onmouseover="window.hit=1',
    "' onmouseover='window.hit=1",
    '" style="background:url(https://example.invalid)',
    '"><b>bold</b>',
    "x;background-image:url(https://example.invalid)",
    "<!-- never closed",
    "--><b>after a comment</b>",
    "<![CDATA[<b>x</b>]]>",
    "<?php echo 1 ?>",
    "<!DOCTYPE html>",
    "&lt;script&gt; &amp; &quot; &#x3C;b&#x3E;",
    "{{constructor.constructor('window.hit=1')()}}",
    "${window.hit=1} `x`",
    "\\u003cscript\\u003e",
    "a\u202etxt.exe\u202c b\u2066c\u2069",
    "bell\x07 escape\x1b[31m null\x00 delete\x7f",
    "line\u2028separator\u2029 zero\u200bwidth\ufeff",
    "half a pair \ud83d alone",
    "Ünïcödé 日本語 العربية 👩‍💻",
]


def hostile_rollouts(text: str, kit) -> tuple[Rollouts, dict[str, Credit]]:
    """A rollout in which every text of a model, a tool, a person or a file is hostile."""
    action = Message(
        "a" + text, "assistant", text, author=text, calls=(ToolCall("c" + text, text, text, {text: text}),)
    )
    broken = Message("b" + text, "assistant", text, calls=(ToolCall("d" + text, text, text, None, text),))
    result = Message("r" + text, "tool", text, author=text, answers="c" + text)
    asked = Message("q" + text, "user", (Part(text=text), Part("image", sha256="0" * 64, mime="image/" + text)))  # type: ignore[arg-type]
    turns = (
        Turn(action, (result,), agent=text, stop_reason=text, state_key=text, rewards={text: 1.0}, reward=0.5),
        Turn(broken, (), agent=text, trainable=False, why_not=text),
    )
    spans = (
        kit.span(text, "prompt", -1, asked.id),
        kit.span(text, "forced", 0, action.id),
        kit.span(text, "sampled", 0, action.id),
        kit.span(text, "sampled", 1, broken.id),
    )
    t = Trajectory(
        "t" + text, "g" + text, (asked,), turns, (Sequence(spans),), outcome=1.0, rewards={text: 0.5}, gold={text: text}
    )
    r = Rollouts((t, replace(t, id="u" + text, outcome=0.0)), notes=(text,))
    credit = kit.credit("turn", [1.0, None, -1.0, 0.5])
    dropped = credit.drop(credit.values == -1.0, text)
    return r, {text: dropped, text + "2": kit.credit("token", [0.3] * r.batch().count("token"))}


def shown(text: str) -> str:
    return visible(text).replace("↵", "")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text(text, kit, fragments, rollouts, credits):
    r, given = hostile_rollouts(text, kit)
    for name, fragment in fragments(r, given).items():
        read = kit.read(fragment)
        assert read.wrong == [], name
        if name in ("credit_map", "trajectory", "turn", "message", "gallery"):
            assert shown(text) in "".join(read.text).replace("↵", ""), name
        fragment.encode("utf-8")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_element(text, kit, fragments):
    """The same rollouts with harmless text of the same shape have the very same elements."""
    r, given = hostile_rollouts(text, kit)
    whole = kit.read(html.transcript(payload.transcript(r[0])))
    harmless, _ = hostile_rollouts("harmless", kit)
    assert whole.elements == kit.read(html.transcript(payload.transcript(harmless[0]))).elements


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_round_trips_through_escape(text, kit):
    read = kit.read(el("div", text, title=text))
    assert "".join(read.text) == visible(text) and read.titles == [visible(text)]
    assert "<" not in esc(text) and '"' not in esc(text) and "'" not in esc(text)
    helper = json_for_html({"x": visible(text)})
    assert "<" not in helper and ">" not in helper and "&" not in helper and "\u2028" not in helper


def test_a_plain_string_cannot_become_html():
    assert el("b", "<i>" + el("i", "x")) == "<b>&lt;i&gt;&lt;i&gt;x&lt;/i&gt;</b>"


# --------------------------------------------------------------------------------------------------- sizes


def test_fifty_megabytes_are_cut_and_said_so(kit):
    t = kit.trajectory("a", "g", [" one", " two"], [], 1.0)
    flood = Message("flood", "tool", "x" * 50_000_000)
    r = Rollouts((replace(t, turns=(replace(t.turns[0], observations=(flood,)), t.turns[1]), sequences=()),))
    credit = kit.credit("turn", [1.0, -1.0])
    bundle = view.mimebundle(view.CreditMap(r, 0, {"m": credit}))
    assert len(bundle["text/html"].encode()) <= REPR_BYTES
    assert "49,996,000 more characters" in bundle["text/html"] and "turn 1" in bundle["text/html"]
    assert len(view.mimebundle(r[0])["text/html"].encode()) <= REPR_BYTES


def test_many_long_turns_stay_within_the_budget_and_say_so(kit):
    words = " " + " ".join(f"word{i}" for i in range(1000))
    t = kit.trajectory("a", "g", [words] * 16, [], 1.0)
    r = Rollouts((t,))
    n = r.batch().count("token")
    given = {
        name: kit.credit("token", [((i * 7 + j) % 31 - 15) / 9 for i in range(n)]) for j, name in enumerate("abcd")
    }
    fragment = view.mimebundle(view.CreditMap(r, 0, given))["text/html"]
    assert len(fragment.encode()) <= REPR_BYTES
    assert "keep this view small" in fragment or "more turns not shown" in fragment
    assert len(view.CreditMap(r, 0, given).html().encode()) <= PAGE_BYTES
    assert kit.read(fragment).wrong == []


def test_ten_thousand_rollouts_show_the_first_and_say_so(kit):
    turn = Turn(Message("m", "assistant", "Answer: x"))
    many = Rollouts(
        tuple(
            Trajectory(f"r/{i:05d}", f"g/{i // 4:04d}", turns=(turn,) * 1, outcome=float(i % 2)) for i in range(10_000)
        )
    )
    shown_all = view.Overview(many, {"m": kit.credit("trajectory", [float(i % 2) for i in range(10_000)])})
    assert shown_all.payload["hidden"] == 9_800 and shown_all.payload["total"] == 10_000
    assert "first 200 of 10,000 rollouts" in shown_all.html()
    small = view.mimebundle(many)["text/html"]
    assert len(small.encode()) <= REPR_BYTES and "of 10,000 rollouts" in small


# ---------------------------------------------------------------------------------------- pages and displays


def test_pages_are_whole_and_offline_with_a_script_only_for_views(tmp_path, rollouts, credits, kit):
    bare = show.html_page([rollouts], tmp_path / "bare.html").read_text(encoding="utf-8")
    assert "default-src &#x27;none&#x27;" in bare and "<script" not in bare and "script-src" not in bare
    path = show.html_page(
        [view.CreditMap(rollouts, 0, credits), rollouts], tmp_path / "deep" / "a page.html", title="A < B"
    )
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and "<title>A &lt; B</title>" in text
    assert "default-src &#x27;none&#x27;" in text and "http://" not in text and "https://" not in text
    assert text.count("<script") == 2 and text.count('class="cw-data"') == 1 and "prefers-color-scheme: dark" in text
    assert len(text.encode()) <= PAGE_BYTES + 80_000
    for n in range(8):
        assert rollouts[n].id in text


def test_named_views_write_pages(tmp_path, rollouts, credits, kit):
    for made in (
        view.CreditMap(rollouts, 0, credits),
        view.Overview(rollouts),
        view.Ribbons(rollouts, 0, kit.recipe()),
    ):
        text = made.to_html(tmp_path / "x.html", lead="One sentence.").read_text(encoding="utf-8")
        assert made.title in text and "One sentence." in text


def test_what_has_no_picture_says_so():
    with pytest.raises(TypeError, match="no picture for dict"):
        view.mimebundle({})


def test_objects_display_themselves(rollouts, credits, kit):
    for thing in (rollouts, rollouts[0], rollouts[0].turns[0], kit.recipe(), credits["IGPO"], rollouts.batch()):
        bundle = thing._repr_mimebundle_()
        assert set(bundle) == {"text/plain", "text/html"} and bundle["text/plain"]


def test_a_recipe_is_drawn_with_its_parameters(kit):
    text = "".join(kit.read(view.mimebundle(kit.recipe())["text/html"]).text)
    for word in ("gigpo_like", "mix", "weights (1.0, 0.5)", "gamma 0.9", "peers same_state", "PolicyLoss", "0.01"):
        assert word in text, word


def test_terminal_text_holds_the_numbers(rollouts, credits):
    text = repr(view.CreditMap(rollouts, 1, credits))
    assert "GRPO" in text and "−1.00" in text and "unknown" in text


def test_small_credits_are_not_rounded_to_zero(rollouts, kit):
    """A scale of thousandths gets more decimals; nothing that is not zero is shown as 0.00."""
    small = kit.credit("trajectory", [0.004 * (1 if i % 2 else -1) for i in range(8)])
    text = "".join(kit.read(view.Overview(rollouts, {"m": small}).html()).text)
    assert "+0.0040" in text and "+0.00 " not in text


def test_wide_overviews_show_signs_and_numbers_as_tooltips(rollouts, credits, kit):
    many = {f"{name} {i}": credit for i in range(3) for name, credit in credits.items()}
    read = kit.read(view.Overview(rollouts, many).html())
    assert "+ positive, − negative" in "".join(read.text) and "turn 0: +1.00" in read.titles


def test_why_something_was_dropped_is_said_in_words(rollouts, credits, kit):
    text = "".join(kit.read(view.CreditMap(rollouts, 5, credits).html()).text)
    assert "GRPO drops: all outcomes of the group are equal." in text


def test_empty_things_have_pictures_too(tmp_path):
    none = torch.zeros(0, dtype=torch.float64)
    bare = Rollouts((Trajectory("a", "g"),))
    things = [Rollouts(()), bare, bare[0], Sequence(()), Span((), "prompt"), Batch.of_maps([], []), Example((), ())]
    things += [Credit(none, "turn", none.bool()), Message("m", "tool"), Turn(Message("m", "assistant"))]
    things += [view.CreditMap(bare, 0, {"m": Credit(none, "turn", none.bool())}), view.Overview(Rollouts(()))]
    for thing in things:
        assert view.mimebundle(thing)["text/html"].startswith("<div")
    assert view.html_page(things, tmp_path / "x.html").exists() and view.html_page([], tmp_path / "y.html").exists()


def sizes(kit) -> dict[str, view.CreditMap]:
    """Maps that are large in one respect each."""
    long = kit.trajectory("long", "g", [" word" * 8] * 200, ["found"] * 199, 1.0)
    turns = kit.credit("turn", [0.1 * (k % 7 - 3) for k in range(200)])
    short = kit.trajectory("short", "g", [" word" * 8] * 20, ["found"] * 19, 1.0)
    few = kit.credit("turn", [0.1 * (k % 7 - 3) for k in range(20)])
    talk = tuple(Message(f"p{k}", "user", f"{k} " + "x" * 4_000) for k in range(60))
    talked = Trajectory("talked", "g", talk, (Turn(Message("a", "assistant", "yes")),), outcome=1.0)
    named = Trajectory("n" * 200_000, "g", (), (Turn(Message("a", "assistant", "yes")),), rewards={"r" * 200_000: 1.0})
    one = kit.credit("turn", [1.0])
    return {
        "turns": view.CreditMap(Rollouts((long,)), 0, {"a": turns, "b": turns}),
        "methods": view.CreditMap(Rollouts((short,)), 0, {f"method {i}": few for i in range(60)}),
        "prompt": view.CreditMap(Rollouts((talked,)), 0, {"m": one}),
        "names": view.CreditMap(Rollouts((named,)), 0, {"m": one}),
    }


@pytest.mark.parametrize("what", ["turns", "methods", "prompt", "names"])
def test_a_map_keeps_its_budget_whatever_is_large(kit, what):
    text = view.mimebundle(sizes(kit)[what])["text/html"]
    assert len(text.encode()) <= REPR_BYTES
    read = kit.read(text)
    assert read.wrong == [] and (what == "names" or "not shown" in "".join(read.text))
