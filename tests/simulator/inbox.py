"""Who is told: sinks that are slow, fail, or say that they failed when they did not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from tests.fakes import NoOptions
from tests.simulator.faults import Fault, Faults
from tests.simulator.process import Process
from watchdog.errors import SinkError
from watchdog.model import Message
from watchdog.ports import Delivery

SINKS = ("team", "pager")


@dataclass(slots=True)
class Inbox:
    """Every message that really arrived, in the order of arrival."""

    arrived: list[tuple[float, str, Message]] = field(default_factory=list)

    def copies(self, sink: str, message: Message) -> int:
        return sum(s == sink and (m.watch_id, m.key) == (message.watch_id, message.key) for _, s, m in self.arrived)


@dataclass(slots=True)
class SimulatedSink:
    name: str
    process: Process
    faults: Faults
    inbox: Inbox
    kind: ClassVar[str] = "simulated"
    Options: ClassVar[type[NoOptions]] = NoOptions

    def send(self, delivery: Delivery) -> Mapping[str, str]:
        self.process.call(f"sends {delivery.message.key} to {self.name}")
        calm = self.process.quiet
        if not calm and self.faults.strikes(Fault.SINK_SLOW, 0.2):
            self.process.sleep(self.faults.random.choice((1.0, 8.0, 35.0)))
        if not calm and self.faults.strikes(Fault.SINK_FAILS, 0.2):
            raise SinkError("503", retry_after_s=self.faults.random.choice((None, 7.0)))
        self.inbox.arrived.append((self.process.now(), self.name, delivery.message))
        if not calm and self.faults.strikes(Fault.SINK_FAILS, 0.1):
            raise SinkError("the connection broke before the answer")
        self.process.call("sent")
        return {}
