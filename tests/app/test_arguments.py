"""Arguments: they arrive as they were sent, and what does not fit the signature is refused where it was written."""

import dataclasses
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pytest

from holdfast import Context, Holdfast, Task, injected
from holdfast.errors import BadArguments, ConfigError, ContentError, TooLarge
from tests.features import feature


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Level(IntEnum):
    LOW = 1


class Place(TypedDict):
    street: str
    number: int


class Line(NamedTuple):
    item: str
    pieces: int


class Basket(msgspec.Struct):
    lines: list[Line]
    note: str | None = None


@dataclasses.dataclass
class Order:
    number: str
    basket: Basket
    places: dict[str, Place] = dataclasses.field(default_factory=dict)


def sent_and_run(task: Task[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Encode a call as an enqueue does and make it as a worker does."""
    return task.arguments.bind(task.job(*args, **kwargs).payload, None)()


@feature("A11", "T28")
def test_a11_numbers_lists_and_nested_objects_arrive_unchanged(app: Holdfast) -> None:
    @app.task
    def echo(  # type: ignore[no-untyped-def]  # one parameter has no annotation
        whole: int,
        real: float,
        text: str,
        flag: bool,
        nothing: None,
        many: list[int],
        pairs: dict[str, list[dict[str, float]]],
        either: int | str | None,
        anything: Any,
        untyped,
    ) -> Any:
        return (whole, real, text, flag, nothing, many, pairs, either, anything, untyped)

    given = (
        2**63 - 1,
        0.1 + 0.2,
        "größer 😀 שלום",
        True,
        None,
        [1, -2, 3],
        {"a": [{"b": 0.5}]},
        "seven",
        {"deep": [[{"x": None}]]},
        [1, "two", {"three": 3}],
    )
    assert sent_and_run(echo, *given) == given


@feature("A11", "T28")
def test_typed_values_come_back_as_their_types(app: Holdfast) -> None:
    @app.task
    def echo(
        when: datetime,
        day: date,
        long: timedelta,
        who: UUID,
        money: Decimal,
        mood: Mood,
        level: Level,
        order: Order,
        place: Place,
        picks: set[int],
        blob: bytes,
        mode: Literal["fast", "safe"],
    ) -> Any:
        return (when, day, long, who, money, mood, level, order, place, picks, blob, mode)

    given = (
        datetime(2030, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
        date(2030, 1, 2),
        timedelta(hours=3, microseconds=7),
        UUID(int=2**100),
        Decimal("10.00000000000000000001"),
        Mood.BAD,
        Level.LOW,
        Order("o-1", Basket([Line("tea", 2)]), {"home": {"street": "Main", "number": 5}}),
        Place(street="Side", number=1),
        {3, 1, 2},
        b"\x00\xff",
        "safe",
    )
    back = sent_and_run(echo, *given)
    assert back == given
    assert [type(value) for value in back] == [type(value) for value in given]


@pytest.mark.parametrize("how", ["by place", "by name"])
def test_one_dataclass_is_the_payload_itself(app: Holdfast, how: str) -> None:
    @app.task
    def ship(order: Order) -> Order:
        return order

    order = Order("o-1", Basket([Line("tea", 2)]))
    job = ship.job(order) if how == "by place" else ship.job(order=order)
    assert msgspec.json.decode(job.payload) == {
        "number": "o-1",
        "basket": {"lines": [["tea", 2]], "note": None},
        "places": {},
    }
    assert ship.arguments.bind(job.payload, None)() == order


def test_one_struct_is_the_payload_itself_beside_a_context(app: Holdfast) -> None:
    @app.task
    def pack(ctx: Context, basket: Basket) -> tuple[Any, Basket]:
        return (ctx, basket)

    @app.task
    def pack_by_name(*, basket: Basket, ctx: Context = injected) -> tuple[Any, Basket]:
        return (ctx, basket)

    basket = Basket([Line("tea", 1)], "gift")
    for task in (pack, pack_by_name):
        call = task.arguments.bind(msgspec.json.encode(basket), "the context")
        assert call() == ("the context", basket)


def test_defaults_of_every_kind_are_the_very_values_that_the_function_has(app: Holdfast) -> None:
    shared, basket = [1], Basket([])

    @app.task
    def defaults(  # type: ignore[no-untyped-def]  # one parameter has no annotation
        number: int,
        none: int = None,  # type: ignore[assignment]  # noqa: RUF013 - as people write it
        text: str = "a",
        mood: Mood = Mood.GOOD,
        items: list[int] = shared,
        lines: Basket = basket,
        anything=0.5,
        *,
        named: bytes = b"b",
        more: dict[str, int] = {},  # noqa: B006 - one dict for all calls, as Python has it
    ) -> Any:
        return number, none, text, mood, items, lines, anything, named, more

    found = sent_and_run(defaults, 1)
    assert found == (1, None, "a", Mood.GOOD, [1], basket, 0.5, b"b", {})
    assert found[4] is shared
    assert found[5] is basket
    assert sent_and_run(defaults, 2, 3, "c", Mood.BAD, [], named=b"d")[:5] == (2, 3, "c", Mood.BAD, [])
    with pytest.raises(BadArguments, match="none"):
        defaults.arguments.bind(b'{"number": 1, "none": "x"}', None)


def test_a_default_that_was_not_given_is_taken_from_the_code_that_runs(app: Holdfast) -> None:
    @app.task
    def greet(name: str, words: str = "hello", *, loud: bool = False, times: int) -> str:
        return f"{words} {name} {loud} {times}"

    assert greet.job("Ada", times=2).payload == b'{"name":"Ada","times":2}'
    assert sent_and_run(greet, "Ada", times=2) == "hello Ada False 2"
    assert sent_and_run(greet, "Ada", "hi", loud=True, times=1) == "hi Ada True 1"


@pytest.mark.parametrize("form", ["keyword", "first", "last", "bare"])
def test_the_context_is_given_wherever_the_handler_wants_it(app: Holdfast, form: str) -> None:
    def keyword(a: int, *, ctx: Context = injected) -> Any:
        return (a, ctx)

    def first(ctx: Context, a: int) -> Any:
        return (a, ctx)

    def last(a: int, ctx: Context) -> Any:
        return (a, ctx)

    def bare(a: int, *, ctx: Context) -> Any:
        return (a, ctx)

    functions: dict[str, Any] = {"keyword": keyword, "first": first, "last": last, "bare": bare}
    task: Task[..., Any] = app.task(form)(functions[form])
    assert task.job(a=1).payload == b'{"a":1}'
    assert task.arguments.bind(b'{"a":1}', "the context")() == (1, "the context")


def test_a_plain_call_just_runs_the_function(app: Holdfast) -> None:
    @app.task("math.double")
    def double(number: int) -> int:
        """Twice."""
        return number * 2

    assert double(21) == 42
    assert (double.__name__, double.__doc__) == ("double", "Twice.")


def test_without_a_worker_the_context_says_that_there_is_none(app: Holdfast) -> None:
    @app.task
    def late(*, ctx: Context = injected) -> int:
        return ctx.attempt

    with pytest.raises(Exception, match=r"ctx.attempt: expected a context, found none: .* Pass one in this call"):
        late()


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.fixture
def welcome(app: Holdfast) -> Task[..., Any]:
    @app.task("mail.welcome")
    async def welcome(
        user_id: int, lang: str = "en", *, tags: list[str] | None = None, ctx: Context = injected
    ) -> None: ...

    return welcome


SIGNATURE = "Expected welcome(user_id: int, lang: str = 'en', *, tags: list[str] | None = None)."


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "missing argument 'user_id'. Pass it."),
        ((), {"lang": "de"}, "missing argument 'user_id'. Pass it."),
        ((1, "de", "x"), {}, "expected at most 2 arguments by place, got 3."),
        ((1,), {"land": "de"}, "unknown argument 'land' (did you mean 'lang'?)."),
        ((1,), {"user_id": 2}, "argument 'user_id' is given by place and by name. Give it once."),
        ((1,), {"ctx": None}, "'ctx' is given by the worker. Leave it out."),
        (("42",), {}, "argument 'user_id': expected int, got str ('42')."),
        ((1.5,), {}, "argument 'user_id': expected int, got float (1.5)."),
        ((None,), {}, "argument 'user_id': expected int, got null (None)."),
        ((1,), {"lang": 5}, "argument 'lang': expected str, got int (5)."),
        ((1,), {"tags": ["a", 2]}, "argument 'tags[1]': expected str, got int (['a', 2])."),
    ],
)
def test_wrong_arguments_are_told_with_name_expected_and_got(
    welcome: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadArguments) as caught:
        welcome.job(*args, **kwargs)
    assert str(caught.value) == f"task 'mail.welcome': {message} {SIGNATURE}"


def test_content_that_no_store_can_keep_is_refused_with_its_path(welcome: Task[..., Any]) -> None:
    with pytest.raises(ContentError, match=r"^mail.welcome: at \$.lang: expected text without NUL characters"):
        welcome.job(1, "d\x00e")
    with pytest.raises(ContentError, match=r"^mail.welcome: at \$.user_id: .* Send it as text"):
        welcome.job(2**64)


def test_a_payload_over_a_mebibyte_is_refused_with_both_sizes(welcome: Task[..., Any]) -> None:
    with pytest.raises(
        TooLarge, match=r"mail.welcome: expected at most 1,048,576 bytes, found 1,\d+,\d+. Store the bulk"
    ):
        welcome.job(1, "x" * 1_048_576)


def test_wrong_records_are_told_too(app: Holdfast) -> None:
    @app.task
    def ship(order: Order) -> None: ...

    loose: Task[..., Any] = ship
    with pytest.raises(BadArguments, match=r"expected one argument, a Order, got \(str, lang=\). Pass Order"):
        loose.job("o-1", lang="de")
    with pytest.raises(BadArguments, match=r"argument 'basket.lines.0..1.': expected int, got str"):
        loose.job(Order("o-1", Basket([Line("tea", "two")])))  # type: ignore[arg-type]
    with pytest.raises(
        BadArguments, match=r"Order has no field 'nummer' \(did you mean 'number'\?\). Its fields: number"
    ):
        loose.job_from({"nummer": "o-1"})
    with pytest.raises(BadArguments, match=r"missing argument 'basket'. Pass it"):
        loose.job_from({"number": "o-1"})
    with pytest.raises(BadArguments, match="task 'ship': expected object, got int"):
        loose.job(5)


def test_a_payload_of_another_version_of_the_task_does_not_bind(welcome: Task[..., Any]) -> None:
    for payload in (b'{"user":1}', b"{}", b'{"user_id":"x"}', b"[1]", b"not json", b"\xff"):
        with pytest.raises(
            BadArguments, match="enqueued for another version of this task: edit its payload, or enqueue"
        ):
            welcome.arguments.bind(payload, None)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "def f(*args): ...",
            r"expected named parameters, found \*args. .* write them out, or take one dict or dataclass",
        ),
        ("def f(**kwargs): ...", r"expected named parameters, found \*\*kwargs"),
        ("def f(__x): ...", "expected no parameter that begins with __, found __x. Rename it"),
        (
            "def f(a: complex): ...",
            "parameter 'a': <class 'complex'> is no type that JSON can carry. Use text, numbers",
        ),
        ("def f(a: dict[str, list[complex]]): ...", "no type that JSON can carry"),
        ("def f(a: str | datetime): ...", "parameter 'a': Type unions may not contain more than one str-like type"),
        ("def f(a: Context, b: Context): ...", "expected one parameter of type Context, found two. Remove one"),
    ],
)
def test_a_signature_that_no_job_can_carry_is_refused_where_it_stands(app: Holdfast, source: str, message: str) -> None:
    names: dict[str, Any] = {"Context": Context, "datetime": datetime}
    exec(source, names)
    with pytest.raises(ConfigError, match=message):
        app.task("f")(names["f"])


def test_an_annotation_of_a_later_name_is_resolved_when_it_is_needed(app: Holdfast) -> None:
    names: dict[str, Any] = {"__name__": "later"}
    exec("def f(order: 'Later') -> None: ...", names)
    task: Task[..., Any] = app.task("later")(names["f"])
    with pytest.raises(
        ConfigError, match=r"task 'later': .* annotation 'Later' of 'order' can not be resolved: .* Define or"
    ):
        task.job({"number": "o"})
    names["Later"] = Order
    assert b"o-1" in task.job(Order("o-1", Basket([]))).payload


def test_the_context_may_be_imported_for_type_checkers_alone(app: Holdfast) -> None:
    names: dict[str, Any] = {"__name__": "checked"}
    exec("def f(a: int, *, ctx: 'Context') -> None: ...", names)
    assert app.task("checked")(names["f"]).signature.context == "ctx"


def test_types_of_an_enclosing_function_are_found_for_texts_too(app: Holdfast) -> None:
    @dataclasses.dataclass
    class Inner:
        n: int

    @app.task
    def take(inner: "Inner") -> int:
        return inner.n

    assert sent_and_run(take, Inner(3)) == 3


def test_the_definition_carries_the_schema_of_the_arguments(app: Holdfast, welcome: Task[..., Any]) -> None:
    [schema] = msgspec.json.decode(welcome.definition().parameters)["$defs"].values()
    assert schema["required"] == ["user_id"]
    assert set(schema["properties"]) == {"user_id", "lang", "tags"}


@pytest.mark.parametrize(
    "value",
    [
        1, -5, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 1.5, float("nan"), float("inf"), "", "plain",
        "line\nbreak", "\x00", "\ud800",
        "1234567890123456789", "123456789012345678x9", None, True, [], {}, [None], "x" * 300,
        "x" * (1024 * 1024), {1: 2}, {(1, 2): 3}, object(),
        "[" * 300, b"bytes", datetime(2026, 1, 1, tzinfo=UTC), Decimal("1.50"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_encoded_with_others_is_what_it_would_be_alone(app: Holdfast, value: Any) -> None:
    """In a bulk enqueue many are checked at once: none slips through, and each that passes is the same."""

    @app.task
    def echo(value: Any, other: int = 0) -> None: ...

    deep: Any = value
    for _ in range(101):
        deep = [deep]
    for given in (value, [value], deep):
        try:
            alone = echo.arguments.encode((given,), {})
        except (ContentError, TooLarge, BadArguments):
            alone = None
        together = echo.arguments.encode_plain([(1,), (given, 2), ("x",), (given,)])
        assert together is None or (together[0], together[3]) == (b'{"value":1}', alone)
    assert echo.arguments.encode_plain([(1, 2), (3, "no number")]) is None
    assert echo.arguments.encode_plain([(1, 2), (3, 4, 5)]) is None
    assert echo.arguments.encode_plain([(1, 2), ("a",)]) == [b'{"value":1,"other":2}', b'{"value":"a"}']
