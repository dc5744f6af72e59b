"""LitServe with dynamic batching over ONNX Runtime on the plain graph: `python litserve_batching.py PORT`."""

import os
import sys
from pathlib import Path
from typing import Any

import litserve
import onnxruntime
from service import Asked, Service, batched

MAX_BATCH, WAIT_S, WORKERS = 32, 0.002, 2


class Recommend(litserve.LitAPI):
    def setup(self, device: str) -> None:
        place = Path(os.environ["PEER_PLACE"])
        self.service = Service(place)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(place / "plain.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def decode_request(self, request: dict[str, Any]) -> Asked:
        return self.service.asked({entry["name"]: entry["data"] for entry in request["inputs"]})

    def batch(self, inputs: list[Asked]) -> list[Asked]:
        return inputs

    def predict(self, inputs: list[Asked]) -> list[tuple[Any, ...]]:
        found = self.session.run(None, batched([asked.arrays for asked in inputs]))
        return [(asked.top_k, *rows) for asked, *rows in zip(inputs, *found, strict=True)]

    def unbatch(self, output: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return output

    def encode_response(self, output: tuple[Any, ...]) -> dict[str, Any]:
        answer: dict[str, Any] = self.service.answer(*output)
        return answer


if __name__ == "__main__":
    server = litserve.LitServer(
        Recommend(max_batch_size=MAX_BATCH, batch_timeout=WAIT_S, api_path="/v2/models/footfall/infer"),
        accelerator="cpu",
        devices=1,
        workers_per_device=WORKERS,
        healthcheck_path="/v2/health/ready",
    )
    server.run(port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False, log_level="warning")
