"""Call graphs: the inputs of a call, the calls that those have made, and how all of them ended."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

from qmodal.call_graph import InputInfo, InputStatus
from qmodal.client.client import Client
from qmodal.exception import Error, OutputExpiredError, ServerWarning
from qmodal.functions.receipts import read_receipt
from qmodal.functions.results import CANCELLED, open_output, outcomes_in
from qmodal.store.calls import Child
from qmodal.store.results.outputs import CallRecord, Output
from qmodal.transport.operation import Op
from qmodal.wire.ids import input_id

MOST_INPUTS = 10_000
# By index: the container, as far as it is known, and how the input ended.
Ended = dict[int, tuple[str, InputStatus]]
STATUS_OF_KIND = {
    "value": InputStatus.SUCCESS,
    "values": InputStatus.SUCCESS,
    "error": InputStatus.FAILURE,
    "lost": InputStatus.FAILURE,
    "unstored": InputStatus.FAILURE,
    "timeout": InputStatus.TIMEOUT,
    "cancelled": InputStatus.TERMINATED,
}
STATUS_OF_NOTE = {"init": InputStatus.INIT_FAILURE, "stopped": InputStatus.TERMINATED}


def graph_of(client: Client, call: str) -> Op[list[InputInfo]]:
    """The tree below a call; raises OutputExpiredError if the call is gone."""
    return (yield from _Graph(client).inputs_of(call))


def status_of_call(client: Client, call: str, record: CallRecord) -> Op[InputStatus]:
    """How a call has ended: as the first of its inputs that did not succeed, if there is one."""
    if record.state == CANCELLED:
        return InputStatus.TERMINATED
    if not record.is_finished:
        return InputStatus.PENDING
    ended = yield from _Graph(client)._read_ended(call)
    statuses = (ended[index][1] for index in sorted(ended))
    return next((each for each in statuses if each != InputStatus.SUCCESS), InputStatus.SUCCESS)


@dataclass(slots=True)
class _Graph:
    """Walks calls; at most 10 000 inputs, and a warning says if there were more."""

    client: Client
    remaining: int = MOST_INPUTS
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    visited: set[str] = field(default_factory=set)

    def inputs_of(self, call: str) -> Op[list[InputInfo]]:
        """The inputs of a call, each with what is below it; OutputExpiredError if it is gone."""
        record = yield from self.client.calls.record(call)
        if record is None:
            raise OutputExpiredError(f"call {call} expired, was delivered, or never existed")
        return (yield from self._with_children(call, (yield from self._inputs(call, record))))

    def _with_children(self, call: str, inputs: list[InputInfo]) -> Op[list[InputInfo]]:
        self.visited.add(call)
        for child in (yield from self.client.children.of(call)):
            if child.index < len(inputs) and child.call not in self.visited:
                inputs[child.index].children += yield from self._inputs_of_child(child)
        return inputs

    def _inputs_of_child(self, child: Child) -> Op[list[InputInfo]]:
        """A child's inputs; what was noted of one that is gone, since it was delivered."""
        record = yield from self.client.calls.record(child.call)
        if record is not None:
            inputs = yield from self._inputs(child.call, record)
        elif child.told:
            submitted, unsuccessful = read_receipt(child.told)
            ended = {index: ("", status) for index, status in unsuccessful.items()}
            otherwise = InputStatus.SUCCESS
            inputs = yield from self._listed(child.call, child.pool, submitted, ended, otherwise)
        else:
            inputs = []
        return (yield from self._with_children(child.call, inputs))

    def _inputs(self, call: str, record: CallRecord) -> Op[list[InputInfo]]:
        ended = yield from self._read_ended(call)
        otherwise = InputStatus.TERMINATED if record.state == CANCELLED else InputStatus.PENDING
        return (yield from self._listed(call, record.pool, record.submitted, ended, otherwise))

    def _listed(
        self, call: str, pool: str, submitted: int, ended: Ended, otherwise: InputStatus
    ) -> Op[list[InputInfo]]:
        count = min(submitted, self.remaining)
        if count < submitted:
            warnings.warn(
                f"the call graph has more than {MOST_INPUTS} inputs; the rest is left out",
                ServerWarning,
                stacklevel=2,
            )
        self.remaining -= count
        function, module = yield from self._name(pool)
        return [
            InputInfo(input_id(call, index), call, container, status, function, module)
            for index in range(count)
            for container, status in [ended.get(index, ("", otherwise))]
        ]

    def _read_ended(self, call: str) -> Op[Ended]:
        ended: Ended = {}
        cursor, outputs = b"0", list[Output]()
        while outputs or cursor == b"0":
            outputs = yield from self.client.calls.read(call, cursor, block=0, count=1000)
            for output in outputs:
                if output.is_foreign or output.is_item:
                    continue
                ends = self._ends_of(call, output)
                ended |= {output.index + place: end for place, end in enumerate(ends)}
            cursor = outputs[-1].entry if outputs else b"end"
        return ended

    def _ends_of(self, call: str, output: Output) -> list[tuple[str, InputStatus]]:
        """How each input that the output is for has ended."""
        if output.signed is None:
            word = (output.note or "").partition(": ")[0]
            return [("", STATUS_OF_NOTE.get(word, InputStatus.FAILURE))] * output.count
        try:
            outcome = open_output(self.client, call, output, None)
            found = outcomes_in(outcome, output) if outcome.kind == "mixed" else [outcome]
        except Error:
            return [("", InputStatus.PENDING)] * output.count
        ends = [(each.container, STATUS_OF_KIND[each.kind]) for each in found]
        return ends * output.count if len(ends) == 1 else ends

    def _name(self, pool: str) -> Op[tuple[str, str]]:
        """Function and module; empty where the server does not know them any more."""
        if pool not in self.names:
            try:
                self.names[pool] = yield from self._look_up(pool)
            except Error:
                self.names[pool] = ("", "")
        return self.names[pool]

    def _look_up(self, pool: str) -> Op[tuple[str, str]]:
        client = self.client
        found = yield from client.specs.pool(pool)
        if found is None:
            return "", ""
        spec = found.value
        name = spec.function.removesuffix(".*")
        record = yield from client.apps.record(spec.app_id)
        if record is None:
            return name, ""
        version = yield from client.specs.of_record(record, spec.number)
        if version is None:
            return name, ""
        function = version.value.functions.get(spec.function)
        return name, function.module if function else ""
