"""The process that plays the rehearsals. It speaks to the command, line by line, in JSON.

`{"say": text}` is for people, `{"born": pid}` names a process group that must not outlive the drill,
`{"pace": …}`, `{"outcome": …}`, `{"ledger": …}` and `{"problem": text}` are the results. It ends when it is told to,
or when the command does.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from types import FrameType

from django.db import connections
from django.utils.translation import gettext as _

from emailoffload.sandbox.drill.notes import Abandoned, Notes
from emailoffload.sandbox.drill.rehearsals import ALL
from emailoffload.sandbox.drill.report import Outcome
from emailoffload.sandbox.drill.stage import NotReady, Stage


class Stopped(BaseException):
    """Somebody wants the drill to end now."""


def main(arguments: Sequence[str]) -> None:
    """Play; the first argument is a JSON object with `only` (names, in order) and `worker` (a command)."""
    order = json.loads(arguments[0])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_the_command, daemon=True).start()
    try:
        _say(_("Setting up a sample Moodle, a worker, a local Amazon SES and an SMTP server …"))
        with Stage(order["worker"], _say, lambda pid: _tell("born", pid)) as stage:
            _tell("pace", stage.pace.json())
            for number, name in enumerate(order["only"], 1):
                _say(f"{number}/{len(order['only'])}  {ALL[name].title} …")
                _tell("outcome", _play(stage, name).as_dict())
            _tell("ledger", stage.ledger().as_dict())
    except NotReady as error:
        _tell("problem", str(error))
    except Stopped:
        pass
    connections.close_all()


def _play(stage: Stage, name: str) -> Outcome:
    outcome = Outcome(name, str(ALL[name].title))
    begun = time.monotonic()
    try:
        stage.calm()
        ALL[name].play(stage, Notes(name, outcome))
    except Abandoned:
        outcome.states = stage.summary(name)
    except Exception as error:
        # Broad on purpose: it belongs to this rehearsal, and the next ones may still be played.
        outcome.problem = _("It could not be played to its end: %(error)s") % {
            "error": f"{type(error).__name__}: {error}"
        }
    else:
        outcome.states = stage.summary(name)
    outcome.seconds = time.monotonic() - begun
    return outcome


def _say(text: str) -> None:
    _tell("say", text)


def _tell(what: str, value: object) -> None:
    print(json.dumps({what: value}), flush=True)


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped


def _end_with_the_command() -> None:
    """The command's end closes our standard input, also where it was killed."""
    # Not through sys.stdin, whose lock a thread must not hold when the interpreter ends.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
