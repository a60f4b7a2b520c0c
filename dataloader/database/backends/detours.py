"""The seam of detours: where a driver would connect to, and how it connects to something in between instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import ssl

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Server:
    """One server, and how it is spoken to.

    Attributes
    ----------
    host : str
        A name, an address, or a Unix socket.
    port : int or None
        None of a Unix socket.
    encryption : ssl.SSLContext or None
        None where there is none.
    must_encrypt : bool
        Whether a server without encryption is refused.
    encrypts_first : bool
        Whether the encryption begins without the question whether there is any.
    """

    host: str
    port: int | None
    encryption: ssl.SSLContext | None = None
    must_encrypt: bool = False
    encrypts_first: bool = False


@dataclass(frozen=True, slots=True)
class Login:
    """What a driver's arguments come to: one server or several of which one is taken, who logs in, and the rest."""

    servers: Sequence[Server]
    user: str
    database: str
    password: Any = field(default=None, repr=False)
    others: dict[str, Any] = field(default_factory=dict)


class Detouring:
    """What a backend knows of the way to its server."""

    wire_obstacle: ClassVar[str | None] = "only PostgreSQL's protocol can be read"
    """Why nobody can stand between a client and its server, None if somebody can."""

    def login(self, arguments: dict[str, Any]) -> Login:
        """What a driver's arguments mean.

        Raises
        ------
        PlanError
            When it is not known how the driver connects.
        """
        raise NotImplementedError

    def redirected(self, arguments: dict[str, Any], login: Login, ports: Sequence[int]) -> dict[str, Any]:
        """The arguments by which the driver connects, as this user, without encryption, to ports of this machine."""
        raise NotImplementedError

    def cut(self, driver: Any) -> None:
        """End a driver's connection at once; called in its loop."""
        driver.close()
