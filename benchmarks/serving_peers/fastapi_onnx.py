"""FastAPI and ONNX Runtime: `uvicorn fastapi_onnx:app --workers 2`, one thread a worker.

PEER_PLACE: the folder that run.py wrote; PEER_GRAPH: `plain`, or `engine` for the file that Footfall itself serves.
"""

import os
from pathlib import Path

import numpy as np
import onnxruntime
import orjson
from fastapi import FastAPI, Request, Response
from service import Service

NOBODY_CHOSE = np.zeros((1, 1), np.int32)

place = Path(os.environ["PEER_PLACE"])
of_engine = os.environ["PEER_GRAPH"] == "engine"
service = Service(place)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(
    str(place / ("engine.onnx" if of_engine else "plain.onnx")), options, providers=["CPUExecutionProvider"]
)
outputs = ["item_index", "item_score", "action_probability"] if of_engine else None


async def ready() -> Response:
    return Response()


async def infer(request: Request) -> Response:
    asked = service.read(await request.body())
    feed = {name: values[None] for name, values in asked.arrays.items()}
    if of_engine:
        feed["candidate_index"] = NOBODY_CHOSE
    index, score, probability = session.run(outputs, feed)
    answer = service.answer(asked.top_k, index[0], score[0], probability[0])
    return Response(orjson.dumps(answer), media_type="application/json")


app = FastAPI()
app.add_api_route("/v2/health/ready", ready)
app.add_api_route("/v2/models/footfall/infer", infer, methods=["POST"])
