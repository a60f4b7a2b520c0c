"""What goes over the wire: `proxy` and `link` pass bytes on, `conversation` says what each message is about.

Knows connections and messages, and neither loads nor values.
"""

from dataloader.wiretap.wire import Wire, wire

__all__ = ["Wire", "wire"]
