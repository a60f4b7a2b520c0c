"""JupyterLab and Notebook 7 in a headless Chromium: a notebook is opened, its cells are run, and it is looked at."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import ConsoleMessage, Locator, Page

HOST = "127.0.0.1"
TOKEN = "lab"
SECONDS = 40
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {HOST}"]
PAGES = {"jupyterlab": "lab/tree", "notebook": "notebooks"}
"""Where the programs that serve notebooks have the page of one."""
QUIET = '{"fetchNews": "false", "checkForUpdates": false}'
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
PICTURE_WIDTH = 860
_CELL = "document.querySelectorAll('.jp-CodeCell')[number]"
_PROMPT = f"{_CELL}.querySelector('.jp-InputPrompt').textContent"
_HAS_ENDED = rf"/\d/.test({_PROMPT})"
_SHOWN = f"{_CELL}.querySelector('.jp-Cell-outputArea').innerText"
_ROWS = rf"parseInt({_SHOWN}.match(/([\d,]+)( of [\d,]+)? rows/)?.[1].replaceAll(',', ''))"
_BAR = f"{_CELL}.querySelector('.dataloader-progress .dataloader-bar')"
_BEGIN = """number => {
    const app = window.jupyterapp;
    app.shell.currentWidget.content.activeCellIndex = number;
    app.commands.execute("notebook:run-cell");
}"""
_NOTE_THE_CLICK = "addEventListener('click', () => { window.clicked = performance.now() }, {capture: true, once: true})"
_IS_READY = "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"


def find_chromium() -> str | None:
    """The system's; Playwright is never asked to fetch one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextlib.contextmanager
def jupyter(folder: Path, program: str = "jupyterlab", **environment: str) -> Iterator[str]:
    """JupyterLab, or Notebook 7, serving a folder; yields its address.

    Parameters
    ----------
    program : {'jupyterlab', 'notebook'}
        One alone: a server gives a file of the one's pages, as its fonts, to no page of the other.
    **environment
        Variables of its process and of its kernels' processes.
    """
    own = folder / f".{program}"
    settings = own / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(QUIET)
    port = free_port()
    folders = {
        "JUPYTER_CONFIG_DIR": own / "config",
        "JUPYTER_DATA_DIR": own / "data",
        "JUPYTER_RUNTIME_DIR": own / "run",
        "JUPYTERLAB_SETTINGS_DIR": own / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": own / "workspaces",
        "IPYTHONDIR": own / "ipython",
    }
    command = [sys.executable, "-m", program, "--no-browser", f"--ip={HOST}", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}", "--allow-root"]
    command += [f"--ServerApp.root_dir={folder}", "--expose-app-in-browser", "--LabApp.extension_manager=readonly"]
    variables = {name: str(path) for name, path in folders.items()} | environment
    address = f"http://{HOST}:{port}"
    with serving(command, own / "log", f"{address}/api/status?token={TOKEN}", env=os.environ | variables):
        yield address


@contextlib.contextmanager
def serving(command: list[str], log: Path, address: str, **options: Any) -> Iterator[None]:
    """A server that answers at an address; it is ended with what it started."""
    with log.open("wb") as written:
        process = subprocess.Popen(command, stdout=written, stderr=written, start_new_session=True, **options)
    try:
        _until_it_answers(address, process, log)
        yield
    finally:
        _end(process)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=2).close()
            return
        time.sleep(0.1)
    raise RuntimeError(f"it did not start: {log.read_text()[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Its kernels end with it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook of code cells that were never run."""
    import nbformat  # takes more than a second

    path.parent.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.v4.new_notebook(metadata=KERNEL, cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, path)


_OF_THE_PAGE = (
    "Could not restore the debugger state: Canceled future",  # where a kernel ends while the debugger asks for it
    "Cannot read properties of undefined (reading 'schema')",  # Notebook 7, of any notebook
    "Command 'filebrowser:open-path' not registered.",  # as above
)
"""How errors begin that the page of any notebook has, whatever is loaded in it."""


class Notebook:
    """A notebook in a page of JupyterLab or Notebook 7; its cells are numbered from 0.

    Attributes
    ----------
    errors : list of str
        What the page wrote to the console as an error, or raised.
    hosts : set of str
        Where the page sent requests.
    """

    def __init__(self, page: Page, address: str) -> None:
        self._page = page
        self._address = address
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self._note_error(str(error)))
        page.on("request", lambda request: self._note(request.url))
        page.on("websocket", lambda socket: self._note(socket.url))

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._note_error(f"{message.text} ({message.location.get('url')})")

    def _note_error(self, text: str) -> None:
        if not text.startswith(_OF_THE_PAGE):
            self.errors.append(text)

    def _note(self, url: str) -> None:
        if host := urlsplit(url).hostname:
            self.hosts.add(host)

    async def open(self) -> None:
        """Open it, or open it again: the page begins anew, and waits for the kernel."""
        await self._page.goto(self._address)
        await self._page.wait_for_function(_IS_READY, timeout=SECONDS * 1000)

    async def hide_files(self) -> None:
        """Leave the page to the notebook, as on a narrow screen."""
        await self._page.evaluate("() => window.jupyterapp.shell.collapseLeft()")

    def cell(self, number: int) -> Locator:
        return self._page.locator(".jp-Notebook .jp-CodeCell").nth(number)

    def output(self, number: int) -> Locator:
        return self.cell(number).locator(".jp-Cell-outputArea")

    def bar(self, number: int) -> Locator:
        """The live widget."""
        return self.output(number).locator(".dataloader-progress")

    async def start(self, number: int) -> None:
        """Run a cell and do not wait for its end."""
        before = await self._prompt(number)
        await self._page.evaluate(_BEGIN, number)
        await self._until(f"([number, before]) => {_PROMPT} !== before", [number, before])

    async def run(self, number: int) -> str:
        """Run a cell to its end, and return what it shows."""
        await self.start(number)
        await self.until_ended(number)
        return await self.text(number)

    async def until_ended(self, number: int) -> None:
        await self._until(f"number => {_HAS_ENDED}", number)

    async def until_shown(self, number: int, text: str) -> None:
        """Wait until a cell shows a text."""
        await self._until(f"([number, text]) => {_SHOWN}.includes(text)", [number, text])

    async def until_rows(self, number: int, rows: int) -> int:
        """Wait until a cell says that there are so many rows or more, and return how many it says."""
        return int(await self._until(f"([number, rows]) => {_ROWS} >= rows && {_ROWS}", [number, rows]))

    async def until_filled(self, number: int, share: float) -> None:
        """Wait until a cell's bar is filled to that share."""
        await self._until(f"([number, share]) => parseFloat({_BAR}?.style.width) >= 100 * share", [number, share])

    async def has_ended(self, number: int) -> bool:
        return "*" not in await self._prompt(number)

    async def text(self, number: int) -> str:
        """What a cell shows."""
        return (await self.output(number).inner_text()).strip()

    async def error(self, number: int) -> str:
        """What a cell shows of the error that ended it."""
        kind = "[data-mime-type='application/vnd.jupyter.stderr']"
        return (await self.output(number).locator(kind).inner_text()).strip()

    async def cancel(self, number: int) -> float:
        """Press a cell's Cancel button, and return how many seconds later the cell has ended."""
        return await self._press(self.output(number).get_by_role("button", name="Cancel"), number)

    async def stop(self, number: int) -> float:
        """Press ■, and return how many seconds later the cell has ended."""
        return await self._press(self._page.locator("[data-command='notebook:interrupt-kernel']").first, number)

    async def _press(self, button: Locator, number: int) -> float:
        """The page measures: how soon Playwright clicks is not what is asked."""
        await self._page.evaluate(_NOTE_THE_CLICK)
        await button.click()
        return await self._until(f"number => {_HAS_ENDED} && performance.now() - window.clicked", number) / 1000

    async def save(self) -> None:
        await self._page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")

    async def shut_down(self) -> None:
        """End the kernel, if there is one."""
        await self._page.evaluate("() => window.jupyterapp?.shell.currentWidget?.sessionContext.shutdown()")

    async def screenshot(self, path: Path) -> None:
        await self._page.screenshot(path=path)

    async def picture(self, number: int, path: Path) -> None:
        """A picture of a cell that is not the active one, and of nothing else."""
        await self._page.evaluate("window.jupyterapp.shell.currentWidget.content.activeCellIndex = 0")
        box: Any = await self.cell(number).bounding_box()
        await self._page.screenshot(path=path, clip=box | {"width": PICTURE_WIDTH})

    async def _prompt(self, number: int) -> str:
        return str(await self._page.evaluate(f"number => {_PROMPT}", number))

    async def _until(self, is_so: str, argument: Any) -> Any:
        found = await self._page.wait_for_function(is_so, arg=argument, timeout=SECONDS * 1000)
        return await found.json_value()
