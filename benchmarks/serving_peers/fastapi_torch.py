"""FastAPI and torch eager: `uvicorn fastapi_torch:app --workers 2`, one thread a worker. PEER_PLACE as for ONNX."""

import os
from pathlib import Path

import orjson
import torch
from fastapi import FastAPI, Request, Response
from plain_graph import INPUTS, PlainGraph
from service import Service

from footfall_models.weights import load_weights

place = Path(os.environ["PEER_PLACE"])
service = Service(place)
torch.set_num_threads(1)
graph = PlainGraph(load_weights(place / "checkpoint")).eval()


async def ready() -> Response:
    return Response()


async def infer(request: Request) -> Response:
    asked = service.read(await request.body())
    with torch.inference_mode():
        found = graph(*(torch.from_numpy(asked.arrays[name][None]) for name in INPUTS))
    index, score, probability = (tensor[0].numpy() for tensor in found)
    answer = service.answer(asked.top_k, index, score, probability)
    return Response(orjson.dumps(answer), media_type="application/json")


app = FastAPI()
app.add_api_route("/v2/health/ready", ready)
app.add_api_route("/v2/models/footfall/infer", infer, methods=["POST"])
