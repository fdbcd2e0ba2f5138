"""What is fuzzed, by name. A target raises only if a promise is broken.

Decides the list. Of each the module that makes the promise is named, for the fuzzer to
follow its branches.
"""

from collections.abc import Callable, Mapping
from typing import Final

from fuzz import host, texts

Target = Callable[[bytes], None]

TARGETS: Final[Mapping[str, Target]] = {
    "session": host.session,  # sandboxes/wired/session, channel, batches, endings, ladder, words
    "frame": host.one_frame,  # sandboxes/wired/frames
    "packets": host.many_packets,  # wire.PacketReader
    "stream": host.stream,  # sandboxes/container/link, wire.MessageReader
    "values": texts.counted_values,  # wire.has_more_values
    "index": texts.index,  # layout.read_index
    "journal": texts.journal_line,  # journals/codec
    "reply": texts.reply,  # core/replies
}
