"""A live kernel, driven as JupyterLab does: cells, clicks on widgets, the stop button."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from jupyter_client.manager import KernelManager

SECONDS = 60.0
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(slots=True)
class Cell:
    """A cell under way, or what came of it."""

    id: str
    text: str = ""
    displays: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    traceback: list[str] = field(default_factory=list)
    is_idle: bool = False
    has_reply: bool = False

    @property
    def has_ended(self) -> bool:
        return self.is_idle and self.has_reply


class Kernel:
    """Use it as a context.

    Parameters
    ----------
    **environment
        Variables of the kernel's process; PYTHONPATH chooses another ipykernel.
    """

    def __init__(self, **environment: str) -> None:
        self._environment = os.environ | {"PYDEVD_DISABLE_FILE_VALIDATION": "1", **environment}
        self._manager = KernelManager(kernel_name="python3")
        self._cells: dict[str, Cell] = {}
        self._shown: dict[str, dict[str, Any]] = {}
        self.widgets: dict[str, dict[str, Any]] = {}
        """The state of every widget, by its comm."""

    def __enter__(self) -> Self:
        self._manager.start_kernel(env=self._environment)
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=SECONDS)
        self._subshell = self._begin_subshell()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    def start(self, code: str) -> Cell:
        """Execute a cell and do not wait for it."""
        cell = Cell(self._client.execute(code))
        self._cells[cell.id] = cell
        return cell

    def run(self, code: str) -> Cell:
        """Execute a cell to its end."""
        cell = self.start(code)
        self.until_ended(cell)
        return cell

    def until_ended(self, cell: Cell) -> float:
        """Follow the kernel until a cell has ended, and return how many seconds that took."""
        return self.until(lambda: cell.has_ended)

    def until(self, is_so: Callable[[], object], seconds: float = SECONDS) -> float:
        """Follow the kernel until something is so, and return how many seconds that took."""
        before = time.perf_counter()
        while not is_so():
            assert time.perf_counter() - before < seconds, f"not within {seconds} s: {self._cells}"
            self._follow()
        return time.perf_counter() - before

    def click(self, name: str, *, in_subshell: bool = True) -> None:
        """Press the button of that name that was made last; JupyterLab does it in a subshell where there are some."""
        buttons = [comm for comm, state in self.widgets.items() if state.get("description") == name]
        content = {"comm_id": buttons[-1], "data": {"method": "custom", "content": {"event": "click"}}}
        message = self._client.session.msg("comm_msg", content)
        if in_subshell and self._subshell is not None:
            message["header"]["subshell_id"] = self._subshell
        self._client.shell_channel.send(message)

    def _begin_subshell(self) -> str | None:
        """What JupyterLab sends clicks to; an ipykernel before 7 has none."""
        request = self._client.session.msg("create_subshell_request", {})
        self._client.control_channel.send(request)
        with contextlib.suppress(queue.Empty):
            while (reply := self._client.get_control_msg(timeout=1))["parent_header"]["msg_id"] != request["msg_id"]:
                pass
            return reply["content"].get("subshell_id")
        return None

    def has_button(self, name: str) -> bool:
        """Whether a widget is a button of that name."""
        return any(state.get("description") == name for state in self.widgets.values())

    def stop(self) -> None:
        """Press the stop button."""
        self._manager.interrupt_kernel()

    def shows(self, text: str) -> bool:
        """Whether a widget's value contains a text."""
        return any(text in str(state.get("value")) for state in self.widgets.values())

    def text_of(self, cell: Cell) -> str:
        """What the cell shows, as text, without what a live widget shows."""
        return "".join(str(data.get("text/plain")) for data in cell.displays)

    def _follow(self) -> None:
        with contextlib.suppress(queue.Empty):
            self._take(self._client.get_iopub_msg(timeout=0.02))
        with contextlib.suppress(queue.Empty):
            reply = self._client.get_shell_msg(timeout=0)
            if (cell := self._cells.get(reply["parent_header"].get("msg_id"))) is not None:
                cell.has_reply = True

    def _take(self, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        if kind == "comm_open":
            self.widgets[content["comm_id"]] = content["data"].get("state", {})
        elif kind == "comm_msg" and content["data"].get("method") == "update":
            self.widgets.setdefault(content["comm_id"], {}).update(content["data"]["state"])
        elif kind == "update_display_data":
            self._shown[content["transient"]["display_id"]].update(_replaced(content["data"]))
        elif (cell := self._cells.get(message["parent_header"].get("msg_id"))) is not None:
            self._write(cell, kind, content)

    def _write(self, cell: Cell, kind: str, content: dict[str, Any]) -> None:
        if kind == "stream":
            cell.text += content["text"]
        elif kind in {"display_data", "execute_result"}:
            cell.displays.append(content["data"])
            if (name := content.get("transient", {}).get("display_id")) is not None:
                self._shown[name] = content["data"]
        elif kind == "error":
            cell.error = content["ename"]
            cell.traceback = [_COLOURS.sub("", line) for line in content["traceback"]]
        elif kind == "status" and content["execution_state"] == "idle":
            cell.is_idle = True


def _replaced(data: dict[str, Any]) -> dict[str, Any]:
    """A new output, in which nothing of the live widget is left."""
    return {"application/vnd.jupyter.widget-view+json": None, **data}


def kinds(data: dict[str, Any]) -> Iterator[str]:
    """The forms in which a display is there."""
    return (kind for kind, value in sorted(data.items()) if value is not None)
