"""T53 and the status page: it shows what is true, and whatever a job, a name or an error holds is text and no more."""

from html.parser import HTMLParser
from typing import Any

import pytest
from msgspec.structs import replace

from holdfast.feed import ExportFigures
from holdfast.hub.html import Html, fill
from holdfast.hub.scopes import Scope
from holdfast.hub.status import look, page
from holdfast.job.commands import ChangeQueue, Define, ErrorInfo, Failed
from holdfast.job.model import Instance, InstanceState
from holdfast.job.retry import RetryPolicy
from tests.hub.site import Site

#: Tags that our page has. Anything else, and any attribute of an event, was made by a value.
OURS = {
    "html", "head", "meta", "title", "link", "body", "div", "header", "h1", "h2", "span", "section", "p", "table", "thead",
    "tbody", "tr", "th", "td", "bdi", "form", "input", "button", "footer", "a", "svg", "g", "rect", "line", "b", "code",
}  # fmt: skip

_TAGS = [
    "script",
    "img",
    "svg",
    "iframe",
    "object",
    "embed",
    "video",
    "math",
    "style",
    "base",
    "form",
    "details",
    "marquee",
    "link",
]
_ON = ["onload", "onerror", "onclick", "onfocus", "onmouseover", "ontoggle", "onbegin", "onpointerenter"]
PAYLOADS = [
    *(f"<{tag} {on}=alert(1)>x</{tag}>" for tag in _TAGS for on in _ON),
    *(f'"><{tag} {on}=alert(1)>' for tag in _TAGS for on in _ON[:4]),
    *(f"'><{tag}>alert(1)</{tag}>" for tag in _TAGS),
    *("{braces}", "{0}", "{base.__class__}", "%s%n", "{{7*7}}", "${7*7}", "<!--", "-->", "]]>", "</title>", "</style>"),
    *("javascript:alert(1)", "data:text/html,<script>alert(1)</script>", "&lt;script&gt;", "&#60;script&#62;"),
    *("\u202egpj.exe", "\x00<b>", "\x1b[2J", "a\r\nb", "\ufeff<x>", "<\u2028script>"),
    *("＜script＞", "<scr<script>ipt>", "<SCRIPT/x>", "<a\thref=x>"),
]  # fmt: skip


class Parsed(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def faults(self) -> list[str]:
        """Nodes that could act."""
        found = [tag for tag, _ in self.tags if tag not in OURS]
        for tag, attributes in self.tags:
            found += [f"{tag} {name}" for name in attributes if name.startswith("on") or name == "style"]
            where = [attributes.get(name) or "" for name in ("href", "src", "action")]
            found += [f"{tag} to {place}" for place in where if place and not place.startswith("/")]
        return found


async def rendered(site: Site, **more: Any) -> str:
    """The page as somebody sees it who may see everything."""
    seen = await look(site.parts)
    return page(seen, who=fill("<span>{who}</span>", who="ann"), base="", sees_payload=True, **more)


def test_there_are_as_many_payloads_as_were_asked() -> None:
    assert len(PAYLOADS) == len(set(PAYLOADS)) >= 200


async def test_t53_whatever_a_field_holds_is_text(site: Site) -> None:
    store = site.rig.store
    retry = RetryPolicy(max_attempts=1)
    await store.define([Define(alias="t", queue=site.rig.queue, retry=retry)])
    for start in range(0, len(PAYLOADS), 20):
        some = PAYLOADS[start : start + 20]
        for number, text in enumerate(some):
            await site.rig.add(
                id=text if 0 < len(text) < 100 and text.isprintable() else f"j{start + number}", retry=retry
            )
        claims = await site.rig.claim(20)
        for text, claim in zip(some, claims, strict=False):
            await site.rig.settle(claim, Failed(ErrorInfo(text, text, text)))
        await store.change_queue(ChangeQueue(name=f"q{start}", create=True, paused=True, who=some[0], why=some[1]))
        instance = Instance(id=f"i{start}", worker=some[2], host=some[3], queues=tuple(some), state=InstanceState.READY)
        from holdfast.job.commands import Beat

        await store.heartbeat(Beat(instance=instance, lease=1e6))
        text = await rendered(site)
        parsed = Parsed(text)
        assert parsed.faults() == []
        shown = "".join(parsed.text.split())
        for one in some[:3]:
            if one.isprintable():
                assert "".join(one.split()) in shown, one
        assert "\x1b" not in text
        assert "\u202e" not in text


async def test_t53_a_link_with_anything_for_a_code_is_only_a_form(site: Site) -> None:
    for text in PAYLOADS:
        answer = await site.client.get("/session", params={"code": text})
        parsed = Parsed(answer.text)
        assert parsed.faults() == []
        [given] = [fields["value"] for tag, fields in parsed.tags if tag == "input"]
        assert text.isprintable() <= (given == text)


async def test_the_page_tells_what_is_true(site: Site) -> None:
    await site.define("t")
    assert "No queue yet" in await rendered(site)
    for _ in range(5):
        await site.do("POST", "/jobs", {"task": "t"})
    claims = await site.rig.claim(3)
    await site.rig.settle(claims[0])
    await site.rig.settle(claims[1], Failed(ErrorInfo("builtins.ValueError", "no such user 7", "")))
    await site.store.change_queue(ChangeQueue(name=site.rig.queue, paused=True, who="ann"))
    text = await rendered(site)
    words = "".join(Parsed(text).text.split())
    for shown in ("queued2", "running1", "succeeded1", "failed1", "pausedbyann", "ValueError:nosuchuser7", "50.0%"):
        assert shown in words, shown
    site.token = None
    public = (await site.client.get("/")).text
    assert "ValueError" in public
    assert "no such user 7" not in public


async def test_the_page_says_of_a_count_that_it_is_an_estimate(site: Site) -> None:
    await site.define("t")
    await site.do("POST", "/jobs", {"task": "t"})
    seen = await look(site.parts)
    counts = {site.rig.queue: {**seen.stats.queues[site.rig.queue], "queued": 1_234_567, "failed": 1_234}}
    seen = replace(seen, stats=replace(seen.stats, queues=counts, estimated={site.rig.queue: ("queued",)}))
    text = str(page(seen, who=Html(), base="", sees_payload=True))
    assert text.count("about 1,230,000") == 2
    assert text.count("1,234<") == 2


async def test_the_page_tells_how_far_the_export_is_where_there_is_one(site: Site) -> None:
    seen = await look(site.parts)
    assert "Export to the history" not in await rendered(site)
    export = ExportFigures(waiting=2_000, lag=3.0, rate=400.0, problem="ClickHouse at <b>h</b> is away")
    text = page(replace(seen, info=replace(seen.info, export=export)), who=fill(""), base="", sees_payload=True)
    assert "2,000 changes wait, the oldest since 3 s; stands still: ClickHouse at &lt;b&gt;h" in text


async def test_pages_are_for_those_who_may_read(site: Site) -> None:
    site.token = site.make("shop", Scope.ENQUEUE)
    answer = await site.send("GET", "//")
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")


def test_only_what_is_made_of_templates_is_html() -> None:
    inner = fill("<b>{x}</b>", x="<i>")
    assert fill("<p>{inner}</p>", inner=inner) == "<p><b>&lt;i&gt;</b></p>"
    assert isinstance(inner, Html)
    assert fill("{x}", x=inner + "<i>") == "&lt;b&gt;&amp;lt;i&amp;gt;&lt;/b&gt;&lt;i&gt;"


@pytest.mark.parametrize("path", ["/", "/session", "/session?code=x"])
async def test_no_page_needs_a_script_or_anything_of_others(site: Site, path: str) -> None:
    text = (await site.client.get(path)).text
    assert "<script" not in text
    assert "http:" not in text
    assert "https:" not in text
