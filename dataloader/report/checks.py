"""What a check of a database found."""

from __future__ import annotations

import html
from dataclasses import dataclass

from dataloader.database.backends.checking import Finding
from dataloader.display.html import BAD, GOOD, headline, panel, table
from dataloader.formatting import fitted, quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What `check` found. Printed as text, a line for each finding with its remedy; shown as HTML in a notebook.

    Attributes
    ----------
    database : str
        What was looked at, without a password.
    findings : tuple of Finding
        Each with ``level`` (``ok``, ``note`` or ``problem``), ``topic``, ``says`` and ``remedy``.

    Examples
    --------
    >>> import asyncio, dataloader as dl
    >>> report = asyncio.run(dl.check("sqlite:///:memory:"))
    >>> report.ok
    True
    >>> report.problems
    ()
    """

    database: str
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """What makes loads fail."""
        return tuple(one for one in self.findings if one.level == "problem")

    @property
    def ok(self) -> bool:
        """Whether nothing was found that makes loads fail."""
        return not self.problems

    @property
    def _headline(self) -> str:
        notes = sum(one.level == "note" for one in self.findings)
        return f"{quantity(len(self.problems), 'problem')}, {quantity(notes, 'note')}"

    @property
    def _text(self) -> str:
        lines = [f"{self.database}: {self._headline}"]
        for one in self.findings:
            remedy = f"\n{'':11}{one.remedy}" if one.remedy else ""
            lines.append(f"  {one.level:<9}{one.topic}: {one.says}{remedy}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return fitted(self._text)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        shown = 4 if any(one.remedy for one in self.findings) else 3
        rows = [(one.level, one.topic, one.says, one.remedy)[:shown] for one in self.findings]
        word = "ready" if self.ok else "not ready"
        return panel(
            headline(GOOD if self.ok else BAD, word, f"{html.escape(self.database)}: {self._headline}"),
            table(rows, head=("", "what", "found", "remedy")[:shown]),
        )
