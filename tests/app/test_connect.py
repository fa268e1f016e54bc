"""URLs become stores, and each wrong one says what is accepted."""

import pytest

from holdfast import Holdfast
from holdfast.clock import SystemClock
from holdfast.connect import ADAPTERS, Adapter, make_store, masked
from holdfast.errors import ConfigError, MissingExtra
from holdfast.stores.memory import MemoryStore
from tests.features import feature


@feature("T1")
@pytest.mark.parametrize("url", ["memory:", "memory://", "MEMORY:"])
def test_memory_is_a_store_of_this_process(url: str) -> None:
    assert isinstance(make_store(url, clock=SystemClock()), MemoryStore)


@feature("T1")
@pytest.mark.parametrize("url", ["", "memory", "redis://x", "/data", "C:\\data", None, 5, "journal"])
def test_a_url_that_is_none_of_ours_lists_the_accepted_forms(url: object) -> None:
    with pytest.raises(ConfigError, match=r"store URL: expected one of memory: .*journal:./data, sqlite:///queue.db"):
        make_store(url, clock=SystemClock())  # type: ignore[arg-type]


def test_memory_takes_no_path_and_no_options() -> None:
    with pytest.raises(
        ConfigError, match=r"expected memory: with nothing behind it, found 'memory:./data'. For a folder use"
    ):
        make_store("memory:./data", clock=SystemClock())
    with pytest.raises(ConfigError, match="found options sync"):
        make_store("memory:", clock=SystemClock(), sync=True)


def test_a_scheme_that_comes_later_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADAPTERS, "mysql", Adapter("holdfast.stores.not_there", "open"))
    with pytest.raises(ConfigError, match=r"mysql: store is not part of this release yet. Use memory: or journal"):
        make_store("mysql://host/name", clock=SystemClock())


def test_a_missing_driver_names_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("adapter")
    (folder / "adapter_without_driver.py").write_text("import a_driver_that_is_not_installed\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(ADAPTERS, "postgresql", Adapter("adapter_without_driver", "open", extra="postgres"))
    with pytest.raises(MissingExtra, match=r"pip install 'holdfast\[postgres\]'"):
        make_store("postgresql://host/name", clock=SystemClock())


def test_passwords_are_not_shown() -> None:
    assert masked("postgresql://me:secret@host/name") == "'postgresql://me:***@host/name'"
    with pytest.raises(ConfigError) as caught:
        make_store("oracle://me:secret@host/name", clock=SystemClock())
    assert "secret" not in str(caught.value)


async def test_a_wrong_url_is_told_at_the_first_use() -> None:
    app = Holdfast("jornal:./data")
    with pytest.raises(ConfigError, match=r"found 'jornal:./data'"):
        await app.open()


def test_a_store_of_your_own_stands_alone() -> None:
    with pytest.raises(ConfigError, match="expected a store URL or store=, found both"):
        Holdfast("journal:./data", store=MemoryStore())


async def test_a_journal_without_a_folder_is_refused_and_nothing_is_written_here() -> None:
    with pytest.raises(ConfigError, match=r"expected a folder behind journal:, found none. Write journal:./data"):
        await Holdfast("journal:").open()


async def test_options_in_the_url_of_a_journal_are_refused_and_name_the_keywords() -> None:
    with pytest.raises(ConfigError, match=r"found './data\?sync=off'. A journal takes its options as keywords"):
        await Holdfast("journal:./data?sync=off").open()
