"""Locust users that time the real client. Importing this module patches the process for gevent, as locust does."""

import itertools
import os
import time
from pathlib import Path
from typing import Any

import grpc.experimental.gevent as grpc_gevent
from locust import User, task

from footfall_client import Client, FootfallClientError
from footfall_loadtest.workload import Workload

grpc_gevent.init_gevent()

NUMBERS = itertools.count()


class FootfallUser(User):
    """One client that asks as fast as it is answered. `host` is host:port of the protocol's endpoint.

    The environment names the rest: FOOTFALL_DATASET, FOOTFALL_MAX_EVENTS, FOOTFALL_TOP_K, FOOTFALL_TLS_ROOT.
    """

    abstract = True
    protocol: Any

    def on_start(self) -> None:
        folder = Path(os.environ["FOOTFALL_DATASET"])
        workload = Workload(folder, int(os.environ.get("FOOTFALL_MAX_EVENTS", "200")))
        top_k = os.environ.get("FOOTFALL_TOP_K")
        self.top_k = int(top_k) if top_k else None
        self.histories = workload.histories(next(NUMBERS))
        # Retries would hide failures and stretch the times.
        url, tls_root = (
            os.environ[f"FOOTFALL_{self.protocol.upper()}_URL"],
            os.environ.get("FOOTFALL_TLS_ROOT"),
        )
        self.client = Client(url, self.protocol, retries=0, tls=tls_root or False)
        self.client.ready()

    def on_stop(self) -> None:
        self.client.close()

    @task
    def recommend(self) -> None:
        history, now = next(self.histories)
        began = time.perf_counter()
        failure, listed = None, 0
        try:
            listed = len(self.client.recommend(history, self.top_k, now=now).items)
        except FootfallClientError as error:
            failure = error
        self.environment.events.request.fire(
            request_type=self.protocol,
            name="recommend",
            response_time=(time.perf_counter() - began) * 1000,
            response_length=listed,
            exception=failure,
            context={},
        )


class GrpcUser(FootfallUser):
    protocol = "grpc"


class HttpUser(FootfallUser):
    protocol = "http"
