"""What a guest wants of a batch: which model, as what it was meant, whether it may begin at all.

Decides on the request alone: depth, models that the user allows, schemas. Does not decide
whether a batch can be paid for (`subcalls`, `fanout`).
"""

from msgspec import structs

from abyme.core import events as ev
from abyme.core import shapes

BEGINNING_CHARS = 200
"""Of a prompt: enough to know it by."""
MAX_VOTES = 1_000_000
"""Items of a task times its samples."""
ENDING = ev.Failure(fault="cancelled", message="the run is ending; submit what you hold")
DECLINED = ev.Failure(
    fault="not_allowed",
    message="the user declined the cost of these calls; make fewer or smaller ones",
)
UNREAD = ev.Failure(
    fault="limit",
    message="the run has asked for too much that was refused or only priced, and this was not "
    "looked at; submit what you hold",
)


def meant(started: ev.RunStarted, event: ev.CallsRequested) -> ev.CallsRequested:
    """Take a text that is the name of an allowed model for one: in the official engine the
    second argument of a query is its model.
    """
    names = {form: one.name for one in (started.root, started.sub) for form in _forms(one)}
    found = [names.get(text_of(one)) for one in event.requests]
    if event.task is not None or not any(found):
        return event
    requests = [
        one if name is None else structs.replace(one, model=name, text=None, context=None)
        for one, name in zip(event.requests, found, strict=True)
    ]
    return structs.replace(event, requests=requests)


def refusal(started: ev.RunStarted, depth: int, event: ev.CallsRequested) -> ev.Failure | None:
    """Say why a batch of a node at `depth` may not begin, whatever it costs; None: it may."""
    need = 2 if event.purpose == "rlm" else 1
    if depth + need > started.limits.depth:
        what = "no sub-calls here" if need == 1 else "no rlm_query here; use llm_query instead"
        message = f"depth {started.limits.depth} allows {what}"
        return ev.Failure(fault="depth", message=message)
    names = {started.sub.name, started.root.name}
    votes = len(event.requests) * event.task.samples if event.task else 0
    if event.task and votes > MAX_VOTES:
        message = (
            f"{len(event.requests):,} items and {event.task.samples} samples of each are "
            f"{votes:,} values to ask for, more than {MAX_VOTES:,}: give fewer"
        )
        return ev.Failure(fault="not_allowed", message=message)
    asking = [event.task] if event.task else event.requests
    models = {one.model for one in asking}
    if not models <= {None, *names} or len(models) > 1:
        there = " or ".join(sorted(names))
        message = f"leave model out, or name one for all calls of the batch: {there}"
        return ev.Failure(fault="not_allowed", message=message)
    try:
        for one in asking:
            if one.schema is not None:
                shapes.check(one.schema)
    except ValueError as error:
        return ev.Failure(fault="bad_shape", message=f"the schema cannot be used: {error}")
    return None


def model_of(started: ev.RunStarted, event: ev.CallsRequested) -> ev.ModelFacts:
    """Tell whose calls a batch makes: children are the root model's if nothing is said."""
    root, sub = started.root, started.sub
    name = (event.task or event.requests[0]).model
    if name is None:
        return root if event.purpose == "rlm" else sub
    return {root.name: root, sub.name: sub}[name]


def beginnings(event: ev.CallsRequested) -> list[str]:
    """Tell how the prompt of each result of a batch begins."""
    if event.task is not None and event.purpose == "reduce":
        return [event.task.instruction[:BEGINNING_CHARS]]
    return [request.prompt[:BEGINNING_CHARS] for request in event.requests]


def chars(event: ev.CallsRequested) -> int:
    """Count the characters that a batch brings."""
    return sum(len(one.prompt) + len(text_of(one)) for one in event.requests)


def text_of(request: ev.Request) -> str:
    """Give the text that a request brings beside its prompt."""
    return request.text or (request.context and request.context.text) or ""


def _forms(model: ev.ModelFacts) -> tuple[str, str]:
    """Tell how people name a model: with its provider, and without."""
    return model.name, model.name.partition(":")[2] or model.name
