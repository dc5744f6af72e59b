"""The load test's users for `locust`'s own command line and web page; `footfall loadtest` runs the same.

FOOTFALL_DATASET=dataset FOOTFALL_GRPC_URL=127.0.0.1:8001 FOOTFALL_HTTP_URL=127.0.0.1:8000 \
    locust --locustfile loadtest/locustfile.py

FOOTFALL_TLS_ROOT=cert.pem has both speak TLS.
"""

from footfall_loadtest.user import GrpcUser, HttpUser

__all__ = ["GrpcUser", "HttpUser"]
