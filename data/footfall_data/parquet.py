"""Parquet files, written so that a full disk can be told from other faults."""

import io
from pathlib import Path
from typing import Any

import polars as pl


def write_parquet(frame: pl.DataFrame, path: Path, **options: Any) -> None:
    """Through memory: of a full disk polars makes a ComputeError, which could be any fault."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, **options)
    path.write_bytes(buffer.getbuffer())
