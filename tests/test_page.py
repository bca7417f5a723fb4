"""The web page in a real Chromium."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import chromium, needs_chromium
from playwright.sync_api import Browser, Page, expect
from serving import Server, serving

pytestmark = [pytest.mark.slow, needs_chromium]
EVIL = "<script>document.title = 'broken into'</script>"


@pytest.fixture(scope="module")
def server(evaluated_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    copy = tmp_path_factory.mktemp("served") / "toy"
    shutil.copytree(evaluated_run, copy)
    with serving(copy) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(params=["desktop", "phone"])
def page(browser: Browser, server: Server, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, in a fresh browser profile; what it says to the console is an error."""
    size = {"width": 390, "height": 844} if request.param == "phone" else {"width": 1280, "height": 900}
    scheme = "dark" if request.param == "phone" else "light"
    context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    found = context.new_page()
    wrong: list[str] = []
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    found.goto(server.url)
    expect(found.locator("#starters button").first).to_be_visible()
    yield found
    assert found.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not wrong
    context.close()


def choose_user(page: Page, user: str) -> None:
    page.locator("#user").fill(user)
    page.locator("#user").dispatch_event("change")
    expect(page.locator("#count")).to_have_text(re.compile("in all"))


def test_a_chat_by_keyboard(page: Page) -> None:
    choose_user(page, "u001")
    page.locator("#sentence").fill("recommend 3 items")
    page.keyboard.press("Enter")
    cards = page.locator(".theirs").last.locator(".card")
    expect(cards).to_have_count(3)
    assert len(set(page.locator(".theirs .card h3").all_inner_texts())) == 3
    expect(cards.first.locator(".rank")).to_have_text("1")
    page.locator("#sentence").fill("more")
    page.keyboard.press("Enter")
    expect(page.locator(".theirs").nth(1).locator(".card").first.locator(".rank")).to_have_text("4")
    page.locator("#sentence").fill("what can I ask?")
    page.locator("#send").click()
    expect(page.locator(".theirs").nth(2)).to_contain_text("You can ask")


def test_likes_change_the_next_list(page: Page, server: Server) -> None:
    page.locator("#tab-list").click()
    expect(page.locator("#strategy")).to_contain_text("most popular")
    page.locator("#query").fill("red 4")
    page.locator("#wishes > button").click()
    expect(page.locator("#items .card").first.locator(".why").last).to_contain_text("like red 4")
    page.locator("#query").fill("")
    page.locator("#wishes > button").click()
    expect(page.locator("#strategy")).to_contain_text("most popular")
    title = page.locator("#items .card h3").first.inner_text()
    page.locator("#items .card").first.get_by_role("button", name=re.compile("^Like")).click()
    expect(page.locator("#history li")).to_have_count(1)
    expect(page.locator("#strategy")).to_contain_text("Ranked by the model")
    number = int(title.split()[1])
    expect(page.locator("#items .card h3").first).to_have_text(re.compile(rf" {(number + 1) % 12}$"))
    assert title not in page.locator("#items .card h3").all_inner_texts()


def test_filters_and_predictions(page: Page) -> None:
    choose_user(page, "u001")
    page.locator("#tab-list").click()
    page.locator("#filters select").select_option("blue")
    page.locator("#wishes > button").click()
    expect(page.locator("#items")).not_to_contain_text("red")
    assert all("blue" in t for t in page.locator("#items .card h3").all_inner_texts())
    page.locator("#tab-tasks").click()
    page.locator("#task").select_option("chain/rating")
    page.locator("#item").fill("red 4")
    page.locator("#predict > button").click()
    expect(page.locator(".answer")).to_have_text(re.compile(r"rating: [45]\.\d\d"))
    expect(page.locator(".choices output")).to_have_count(2)
    page.locator("#item").fill("no such thing at all")
    page.locator("#predict > button").click()
    expect(page.locator("#notice")).to_contain_text("no such thing at all")
    page.locator("#tab-report").click()
    expect(page.frame_locator("#frame").locator("h1")).to_be_visible()


def test_the_tabs_by_arrow_keys(page: Page) -> None:
    page.locator("#tab-chat").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#list")).to_be_visible()
    expect(page.locator("#tab-list")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#chat")).to_be_visible()


def test_a_title_that_is_a_script_stays_text(page: Page, server: Server) -> None:
    server.get("/v1/items", body={"items": [{"item_id": "evil", "title": EVIL, "colour": "red"}]})
    page.locator("#sentence").fill("recommend 13 items for user u002")
    page.keyboard.press("Enter")
    expect(page.locator(".theirs .card h3", has_text=EVIL)).to_have_count(1)
    page.locator("#sentence").fill(EVIL)
    page.keyboard.press("Enter")
    expect(page.locator(".mine").last).to_contain_text(EVIL)
    assert page.title() == "genrec"
