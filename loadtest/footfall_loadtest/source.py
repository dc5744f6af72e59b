"""Source: requests that arrive at random moments, whatever becomes of the ones before. For files of locust.

Importing this module patches the process for gevent, as locust does, and listens to locust's events.
"""

import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import gevent
import grpc.experimental.gevent as grpc_gevent
from gevent.pool import Pool
from locust import LoadTestShape, User, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from footfall.errors import FootfallError
from footfall_client import FootfallClientError
from footfall_loadtest.answers import NO_VERSION, Answer
from footfall_loadtest.arguments import add_arguments, options_of
from footfall_loadtest.options import LoadTestOptions, Protocol
from footfall_loadtest.scenario import Scenario
from footfall_loadtest.session import Session
from footfall_loadtest.watch import Watch
from footfall_loadtest.workload import Request

grpc_gevent.init_gevent()

START_DELAY_S = 3.0
"""Until workers begin, at one moment: so long have they to draw their requests."""
Made = TypeVar("Made")


class Source(User):
    """A scenario's users: one a process that generates load, each with its share of the rate."""

    abstract = True
    host = "see the custom parameters"
    """Locust's page asks for one."""
    scenario: ClassVar[Scenario]
    session: ClassVar[Session | None] = None
    """Of a process that generates load."""
    watch: ClassVar[Watch | None] = None
    """Of the one process that reports."""

    def on_start(self) -> None:
        assert Source.session is not None
        self._session = Source.session
        self._under_way = Pool()
        self._plan = self._session.plan()
        self._next = next(self._plan, None)
        gevent.sleep(max(self.environment.parsed_options.start_at - time.time(), 0))
        self._began = time.perf_counter()
        self._session.begin()

    def on_stop(self) -> None:
        self._under_way.join()
        self._session.close()

    def wait_time(self) -> float:
        return max(self._next[0] - self._passed(), 0.0) if self._next else 0.0

    @task
    def send_what_is_due(self) -> None:
        while self._next and self._next[0] <= self._passed():
            self._under_way.spawn(self._ask, *self._next)
            self._next = next(self._plan, None)
        if self._next is None:
            raise StopUser

    def _ask(self, due_s: float, protocol: Protocol, request: Request) -> None:
        late_ms = (self._passed() - due_s) * 1000
        failure, listed, version = None, 0, NO_VERSION
        try:
            answer = self._session.client(protocol).recommend(
                request.history, self._session.options.top_k, user=request.user, now=request.now
            )
            listed, version = len(answer.items), answer.model_version
        except FootfallClientError as error:
            failure = error
        latency_ms = (self._passed() - due_s) * 1000
        said = f"{type(failure).__name__}: {failure}" if failure else ""
        self._session.answers.append(Answer(protocol, due_s, late_ms, latency_ms, said, version))
        self.environment.events.request.fire(
            request_type=protocol,
            name=type(self).__name__.lower(),
            response_time=latency_ms,
            response_length=listed,
            exception=failure,
            context={},
        )

    def _passed(self) -> float:
        return time.perf_counter() - self._began


class Arrivals(LoadTestShape):
    """A source a worker until the scenario has ended and all is answered. A scenario's file must import it too."""

    def tick(self) -> tuple[int, float] | None:
        runner: Any = self.runner
        watch = Source.watch
        if watch is None:  # the test begins with this tick
            return max(runner.worker_count, 1), float(max(runner.worker_count, 1))
        return None if watch.is_over(runner.user_count) else (watch.sources, float(watch.sources))


def _declare(parser: ArgumentParser) -> None:
    add_arguments(parser)


def _check(environment: Environment, **_: Any) -> None:
    """Before the test: what was given can be read, and a stop waits for what is under way."""
    options = _options(environment)
    if not environment.stop_timeout:
        environment.stop_timeout = options.timeout_s + 1


def _begin(environment: Any, **_: Any) -> None:
    given, runner, options = environment.parsed_options, environment.runner, _options(environment)
    (source,) = environment.user_classes
    is_worker, is_master = isinstance(runner, WorkerRunner), isinstance(runner, MasterRunner)
    if not is_worker:
        # Workers are sent these two with the other arguments.
        given.sources = runner.worker_count if is_master else 1
    if not is_master:
        number = runner.worker_index if is_worker else 0
        Source.session = session = _or_exit(lambda: Session(source.scenario, options, given.sources, number))
        _or_exit(session.connect)
    if not is_worker:
        name = source.__name__.lower()
        Source.watch = _or_exit(lambda: Watch(name, source.scenario, options, given.sources))
        given.start_at = time.time() + (START_DELAY_S if is_master else 0.0)
        Source.watch.begin(given.start_at)


def _report(data: dict[str, Any], **_: Any) -> None:
    if Source.session is not None:
        data["footfall"] = Source.session.taken()


def _note(client_id: str, data: dict[str, Any]) -> None:
    if Source.watch is not None and "footfall" in data:
        Source.watch.note(client_id, data["footfall"])


def _end(environment: Environment, **_: Any) -> None:
    if Source.watch is not None:
        if Source.session is not None:
            Source.watch.note("", Source.session.taken())
        Source.watch.end()
        Source.watch = None


def _options(environment: Environment) -> LoadTestOptions:
    given = environment.parsed_options
    assert given is not None
    return _or_exit(lambda: options_of(given))


def _or_exit(make: Callable[[], Made]) -> Made:
    try:
        return make()
    except FootfallError as error:
        print(f"footfall: {error}", file=sys.stderr)
        sys.exit(1)


for event, listener in (
    (events.init_command_line_parser, _declare),
    (events.init, _check),
    (events.test_start, _begin),
    (events.report_to_master, _report),
    (events.worker_report, _note),
    (events.test_stop, _end),
):
    event.add_listener(listener)  # type: ignore[no-untyped-call]
